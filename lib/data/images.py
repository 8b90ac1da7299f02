"""Image datasets as tensors on the device: loading, splits, normalisation, batches.

    images = load_images("cifar10", device)            # uint8 tensors, train / validation / test
    batches = ImageBatches(images.train, images, 128, Augmentation(crop=4, flip=True), seed=0)
    inputs, targets = batches.batch(epoch=0, step=0)   # float32 [B, C, H, W], int64 [B]

Images stay uint8 on the device and are normalised batch by batch: CIFAR-10 is 184 MB this way, so a
batch costs a gather instead of a data-loading process.  A batch is a pure function of
(seed, epoch, step), the same on every device, so that training resumes where it stopped.
Files are found and read by :mod:`lib.data.files`.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.data.augment import Augmentation, distort, mask_and_mix
from lib.data.catalogue import DATASETS
from lib.data.files import DataMissing, Decoded, find, load, variant
from lib.data.formats import DataDamaged
from lib.system.checks import did_you_mean

__all__ = [
    "DATA_NAMES",
    "DataDamaged",
    "DataMissing",
    "ImageBatches",
    "ImageSet",
    "Split",
    "UnknownDataset",
    "check_name",
    "find_data",
    "load_images",
    "normalise",
    "split_indices",
]

#: Seed of every dataset's split.  Fixed for the whole book: validation is never somebody else's training data.
SPLIT_SEED = 2024

DIGITS = "zero one two three four five six seven eight nine".split()
CLASS_NAMES = {
    "digits": DIGITS,
    "mnist": DIGITS,
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "cifar100": """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
        camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
        dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
        lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
        pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
        shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
        television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm""".split(),
}
#: Names that :func:`load_images` knows.
DATA_NAMES = tuple(CLASS_NAMES)

# Share of the official training images held out for validation: 5,000 of 50,000 and of 60,000.
VALIDATION_SHARE = {"cifar10": 5_000 / 50_000, "cifar100": 5_000 / 50_000, "mnist": 5_000 / 60_000}


class UnknownDataset(ValueError):
    """No dataset of this name; the message suggests one."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 ``[N, C, H, W]`` and their labels int64 ``[N]``."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Split":
        """Return the first ``count`` images with their labels; None: all."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One dataset in three disjoint splits.

    ``variant`` says which form of the data this is (``"official"``, ``"parquet, JPEG re-encoding"`` …),
    ``fingerprint`` is a short sha256 of all its pixels and labels.  ``mean`` and ``std`` are per
    channel, for pixels scaled to 0..1, over the whole train split (also when only a part of it is used,
    so that inputs do not depend on ``train_examples``).
    """

    name: str
    variant: str
    fingerprint: str
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ImageSet":
        return replace(self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device))

    def provenance(self) -> dict[str, Any]:
        """What a result records about its data."""
        return {
            "name": self.name,
            "variant": self.variant,
            "fingerprint": self.fingerprint,
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }


def load_images(name: str, device: torch.device | str = "cpu", train_examples: int | None = None) -> ImageSet:
    """Load ``"digits"``, ``"mnist"``, ``"cifar10"`` or ``"cifar100"`` onto ``device``.

    Splits (train / validation / test): CIFAR 45,000 / 5,000 / 10,000, MNIST 55,000 / 5,000 / 10,000,
    digits 1,200 / 200 / 397; see :func:`split_indices`.  ``train_examples`` keeps that many train
    images, the first ones in the split's shuffled, class-balanced order.

    Raises :class:`UnknownDataset`, :class:`DataMissing` (naming the three ways to supply the data),
    :class:`DataDamaged` (naming the file), ValueError for an impossible ``train_examples``.
    """
    check_name(name)
    data = _digits() if name == "digits" else load(DATASETS[name])
    images, labels = data.train_images, data.train_labels
    if name == "digits":
        rest, held, tested = split_indices(labels, (1_200, 200, 397))
        test = Split(images[tested], labels[tested])
    else:
        validation = round(len(labels) * VALIDATION_SHARE[name])
        rest, held = split_indices(labels, (len(labels) - validation, validation))
        test = Split(data.test_images, data.test_labels)
    if train_examples is not None and not 1 <= train_examples <= len(rest):
        raise ValueError(f"train_examples must lie between 1 and {len(rest)} for {name}, got {train_examples}.")
    mean, std = _pixel_statistics(images[rest])
    kept = rest[:train_examples]
    return ImageSet(
        name=name,
        variant=data.variant,
        fingerprint=data.fingerprint,
        classes=len(CLASS_NAMES[name]),
        class_names=tuple(CLASS_NAMES[name]),
        mean=mean,
        std=std,
        train=Split(images[kept], labels[kept]),
        validation=Split(images[held], labels[held]),
        test=test,
    ).to(device)


def check_name(name: str) -> None:
    """Raises :class:`UnknownDataset`, with the nearest name, for a dataset that the book does not know."""
    if name not in CLASS_NAMES:
        hint = did_you_mean(name.lower().replace("-", "").replace("_", ""), DATA_NAMES)
        raise UnknownDataset(f"There is no dataset {name!r}.{hint} Known: {', '.join(DATA_NAMES)}.")


def split_indices(labels: Tensor, sizes: tuple[int, ...], seed: int = SPLIT_SEED) -> tuple[Tensor, ...]:
    """Disjoint, shuffled, stratified parts of a dataset: for each size an int64 index tensor.

    Every part has each class in proportion (to within one example), and so has every *prefix* of a part:
    the first N examples are a balanced subset.  The sizes must not add up to more than the dataset.
    """
    if sum(sizes) > len(labels) or min(sizes) < 0:
        raise ValueError(f"cannot take parts of sizes {sizes} from {len(labels)} examples")
    # RandomState, because numpy promises that its stream never changes (NEP 19).
    order = np.random.RandomState(seed).permutation(len(labels))
    classes = labels.numpy()[order]
    position = np.empty(len(order))
    for c in np.unique(classes):
        members = classes == c
        position[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    # Sorted by relative position within their class, the classes alternate evenly.
    order = torch.from_numpy(order[np.argsort(position, kind="stable")])
    return order[: sum(sizes)].split(sizes)


def normalise(images: Tensor, image_set: ImageSet) -> Tensor:
    """uint8 ``[N, C, H, W]`` → float32, zero mean and unit deviation per channel over the train split."""
    scale, shift = _scale_and_shift(image_set.mean, image_set.std, images.device)
    return images * scale + shift


@lru_cache(maxsize=16)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # (x/255 - mean)/std as x·scale + shift.  Cached: a copy to the device per batch would wait for it.
    scale = torch.tensor([1 / (255 * s) for s in std], device=device).view(1, -1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device).view(1, -1, 1, 1)
    return scale, shift


def _pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images scaled to 0..1, exact from histograms."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        counts = torch.stack([torch.bincount(part.flatten(), minlength=256) for part in channel.split(4096)]).sum(0).double()
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(mean.item())
        stds.append((share * (values - mean) ** 2).sum().sqrt().item() or 1.0)
    return tuple(means), tuple(stds)


def _digits() -> Decoded:
    """scikit-learn's copy of the UCI digits test set: 1,797 images of 8×8, values 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits  # imported here: slow, and only needed for this set

    digits: Any = load_digits()
    images = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return Decoded(images, labels, images[:0], labels[:0], variant="scikit-learn, embedded")


def find_data() -> list[dict[str, Any]]:
    """Where each dataset stands on this machine: name, found, where, variant, notes.  Downloads nothing."""
    rows = [{"name": "digits", "found": True, "where": "scikit-learn", "variant": "scikit-learn, embedded", "notes": "always at hand"}]
    for dataset in DATASETS.values():
        row = {"name": dataset.name, "found": False, "where": None, "variant": None, "notes": ""}
        try:
            if files := find(dataset):
                row |= {"found": True, "where": str(files.folder), "variant": variant(dataset, files)}
            else:
                row["notes"] = f"downloaded when first used ({dataset.megabytes} MB), or supply {dataset.expects}"
        except (DataMissing, DataDamaged) as error:
            row["notes"] = str(error)
        rows.append(row)
    return rows


class ImageBatches:
    """Shuffled, augmented, normalised training batches of one split.

    ``batch(epoch, step)`` depends on (seed, epoch, step) and nothing else.  Each epoch visits the split
    in a new order; the images beyond the last full batch are left out of that epoch, so that all batches
    have the same size (``min(batch_size, len(split))``).  All random numbers come from the CPU, so
    that each device sees the same batches.
    """

    def __init__(
        self, split: Split, image_set: ImageSet, batch_size: int, augmentation: Augmentation = Augmentation(), seed: int = 0
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if len(split) == 0:
            raise ValueError(f"this split of {image_set.name} holds no images")
        height, width = split.images.shape[-2:]
        augmentation.check((height, width))
        self.split = split
        self.image_set = image_set
        self.batch_size = min(batch_size, len(split))
        self.augmentation = augmentation
        self.seed = seed
        self._order: tuple[int, Tensor] | None = None
        self._first_mirrored: Tensor | None = None

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self.split) // self.batch_size

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Inputs float32 ``[B, C, H, W]`` and targets: int64 ``[B]``, or with mixup or cutmix float32 ``[B, classes]``.

        Raises IndexError for a step outside the epoch.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} lies outside the epoch's {self.steps} steps")
        chosen = self._epoch_order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        generator = _generator("batch", self.seed, epoch, step)
        images = self.split.images[chosen]
        if self.augmentation.alternate:
            images = torch.where(self._mirrored(epoch)[chosen, None, None, None], images.flip(-1), images)
        images = distort(images, self.augmentation, generator)
        inputs = normalise(images, self.image_set)
        return mask_and_mix(inputs, self.split.labels[chosen], self.image_set.classes, self.augmentation, generator)

    def _epoch_order(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            order = torch.randperm(len(self.split), generator=_generator("order", self.seed, epoch))
            self._order = epoch, order.to(self.split.labels.device)
        return self._order[1]

    def _mirrored(self, epoch: int) -> Tensor:
        """bool [N]: which images of the split are mirrored in this epoch."""
        if self._first_mirrored is None:
            first = torch.randint(2, (len(self.split),), generator=_generator("mirror", self.seed), dtype=torch.bool)
            self._first_mirrored = first.to(self.split.labels.device)
        return self._first_mirrored if epoch % 2 == 0 else ~self._first_mirrored


def _generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by the whole key: neighbouring seeds, epochs and steps share nothing."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
