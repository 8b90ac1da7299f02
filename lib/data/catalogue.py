"""The downloadable image datasets: what each holds, which files it comes in, where they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """What one downloadable dataset holds and which files it comes in.

    ``official`` is the folder in torchvision's layout, ``checks`` the md5 of each official file (of the
    unpacked content for idx), ``label`` the name of the labels in pickles and parquet.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    official: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    checks: tuple[str, ...]
    label: str
    url: str
    megabytes: int

    @property
    def expects(self) -> str:
        """The files looked for, in words, relative to a data folder."""
        train = self.train_files
        if len(train) > 2:
            train = (f"{train[0]} to {train[-1]}",)
        return (
            f"{self.official}/ with {', '.join((*train, *self.test_files))} (official), or "
            f"{self.name}/ with train.parquet and test.parquet (Hugging Face style)"
        )


MNIST = Dataset(
    "mnist",
    "MNIST",
    (1, 28, 28),
    10,
    60_000,
    10_000,
    "MNIST/raw",
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "label",
    "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
    12,
)


CIFAR10 = Dataset(
    "cifar10",
    "CIFAR-10",
    (3, 32, 32),
    10,
    50_000,
    10_000,
    "cifar-10-batches-py",
    tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("test_batch",),
    (
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ),
    "label",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    170,
)


CIFAR100 = Dataset(
    "cifar100",
    "CIFAR-100",
    (3, 32, 32),
    100,
    50_000,
    10_000,
    "cifar-100-python",
    ("train",),
    ("test",),
    ("16019d7e3df5f24257cddd939b257f8d", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    "fine_label",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    169,
)


DATASETS = {dataset.name: dataset for dataset in (MNIST, CIFAR10, CIFAR100)}
