"""Datasets: both forms are read, damage is named, splits are disjoint, batches are pure functions."""

import gzip
import hashlib
import io
import os
import pickle
import re
import urllib.error
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lib.data import files as data_files
from lib.data.augment import Augmentation
from lib.data.catalogue import CIFAR10, CIFAR100, DATASETS
from lib.data.files import find
from lib.data.images import (
    DATA_NAMES,
    DataDamaged,
    DataMissing,
    ImageBatches,
    Split,
    UnknownDataset,
    find_data,
    load_images,
    normalise,
    split_indices,
)
from lib.runs.results import Unavailable
from lib.studies.base.images import available_images

real_data = pytest.mark.skipif(not os.environ.get("BOOK_DATA"), reason="needs BOOK_DATA, a folder with CIFAR-10 and MNIST")
EVERYTHING = Augmentation(crop=2, flip=True, cutout=3, colour_jitter=0.3, randaugment=(2, 9), random_erasing=0.5, mixup=0.4, cutmix=1.0)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """An empty BOOK_DATA, an empty checkout and no network."""
    for name in ("given", "book"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(data_files, "ROOT", tmp_path / "book")

    def offline(*_, **__):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return tmp_path / "given"


def pictures(n: int, shape=(3, 32, 32), classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return images, np.arange(n) % classes


def write_pickles(folder: Path, images, labels, files: list[str], key: str = "labels") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = zip(np.array_split(images, len(files)), np.array_split(labels, len(files)), files)
    for some, numbers, name in parts:
        batch = {"data": some.reshape(len(some), -1), key: numbers.tolist(), "batch_label": "made up"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def write_parquet(path: Path, images, labels, kind: str = "PNG", label: str = "label", image: str = "img", **options) -> None:
    def encode(pixels: np.ndarray) -> dict:
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(buffer, kind, **options)
        return {"bytes": buffer.getvalue(), "path": None}

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({image: [encode(pixels) for pixels in images], label: labels}), path)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def same_pixels(got: torch.Tensor, expected: np.ndarray) -> bool:
    """Equal as sets of images: the loader shuffles."""

    def as_set(array):
        return sorted(pixels.tobytes() for pixels in array)

    return as_set(got.numpy()) == as_set(expected)


# ---- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pickles_in_torchvision_layout(given, name):
    classes = 10 if name == "cifar10" else 100
    train, test = pictures(200, classes=classes), pictures(100, classes=classes, seed=1)
    if name == "cifar10":
        folder = given / "cifar-10-batches-py"
        write_pickles(folder, *train, [f"data_batch_{i}" for i in range(1, 6)])
        write_pickles(folder, *test, ["test_batch"])
    else:
        folder = given / "cifar-100-python"
        write_pickles(folder, *train, ["train"], "fine_labels")
        write_pickles(folder, *test, ["test"], "fine_labels")
    images = load_images(name)
    assert images.classes == len(images.class_names) == classes
    assert images.variant.startswith("official layout, other content")
    assert "200 of 50000 train" in images.variant
    assert [len(split) for split in (images.train, images.validation, images.test)] == [180, 20, 100]
    assert same_pixels(torch.cat([images.train.images, images.validation.images]), train[0])
    assert torch.equal(images.test.images, torch.from_numpy(test[0]))
    assert torch.equal(images.test.labels, torch.from_numpy(test[1]))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist"])
def test_idx_files_plain_and_zipped(given, folder, zipped):
    train, test = pictures(120, (28, 28)), pictures(30, (28, 28), seed=1)
    (given / folder).mkdir(parents=True)
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = given / folder / f"{prefix}-{kind}-ubyte{'.gz' if zipped else ''}"
            name.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    mnist = load_images("mnist")
    assert mnist.train.images.shape == (110, 1, 28, 28) and len(mnist.validation) == 10
    assert torch.equal(mnist.test.images, torch.from_numpy(test[0])[:, None])
    assert torch.equal(mnist.test.labels, torch.from_numpy(test[1]))


@pytest.mark.parametrize(
    "kind, options, variant",
    [
        ("PNG", {}, "parquet, lossless"),
        ("JPEG", {}, "parquet, JPEG re-encoding"),
        ("WEBP", {"lossless": True}, "parquet, lossless"),
        ("WEBP", {}, "parquet, WEBP re-encoding"),
    ],
)
def test_parquet_says_which_variant_it_is(given, kind, options, variant):
    train, test = pictures(60), pictures(20, seed=1)
    write_parquet(given / "cifar10/train.parquet", *train, kind, **options)
    write_parquet(given / "cifar10/test.parquet", *test, kind, **options)
    images = load_images("cifar10")
    assert images.variant.startswith(variant)
    assert torch.equal(images.test.labels, torch.from_numpy(test[1]))
    assert torch.equal(images.test.images, torch.from_numpy(test[0])) == (variant == "parquet, lossless")
    row = next(row for row in find_data() if row["name"] == "cifar10")
    assert row["found"] and row["variant"] == variant and row["where"] == str(given / "cifar10")


def test_the_variant_counts_images_that_are_listed_as_not_exact(given):
    for split in ("train", "test"):
        write_parquet(given / f"cifar10/{split}.parquet", *pictures(60), "WEBP", lossless=True)
    exact = load_images("cifar10")
    (given / "cifar10/not_exact.tsv").write_text("split\trow\tlabel\ntrain\t4\t8\ntest\t2\t7\n")
    noted = load_images("cifar10")  # from the cache, which knows nothing of the list
    assert noted.variant == exact.variant + ", 2 of 60000 images with a JPEG's pixels"
    assert noted.fingerprint == exact.fingerprint
    row = next(row for row in find_data() if row["name"] == "cifar10")
    assert row["variant"] == "parquet, lossless, 2 of 60000 images with a JPEG's pixels"


def test_parquet_as_laid_out_by_hugging_face(given):
    """Shards in a sub-folder, fine labels beside coarse ones, an image column named otherwise."""
    train, test = pictures(200, classes=100), pictures(100, classes=100, seed=1)
    folder = given / "cifar100/data"
    columns = {"label": "fine_label", "image": "image"}
    write_parquet(folder / "train-00000-of-00002.parquet", train[0][:120], train[1][:120], **columns)
    write_parquet(folder / "train-00001-of-00002.parquet", train[0][120:], train[1][120:], **columns)
    write_parquet(folder / "test-00000-of-00001.parquet", *test, **columns)
    images = load_images("cifar100")
    assert same_pixels(torch.cat([images.train.images, images.validation.images]), train[0])
    assert torch.equal(images.test.labels, torch.from_numpy(test[1]))


def test_book_data_comes_before_the_cache_folder(given):
    for seed, folder in enumerate((given, data_files.ROOT / "data/cache")):
        write_parquet(folder / "cifar10/train.parquet", *pictures(20, seed=seed))
        write_parquet(folder / "cifar10/test.parquet", *pictures(20, seed=seed))
    first = load_images("cifar10").fingerprint
    (given / "cifar10/test.parquet").unlink()  # incomplete: not silently replaced by other data
    with pytest.raises(DataMissing, match="cifar10 holds a part of a data set: it lacks test.parquet"):
        load_images("cifar10")
    (given / "cifar10/train.parquet").unlink()
    assert load_images("cifar10").fingerprint != first


def test_a_missing_official_file_is_named(given):
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    write_pickles(given / "cifar-10-batches-py", *pictures(60), names)
    assert find(CIFAR10).form == "official"
    (given / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataMissing, match="cifar-10-batches-py holds a part of a data set: it lacks data_batch_3. Put it"):
        find(CIFAR10)
    row = next(row for row in find_data() if row["name"] == "cifar10")
    assert not row["found"] and "data_batch_3" in row["notes"]


def test_decoded_parquet_is_cached_and_a_damaged_cache_remade(given, monkeypatch):
    write_parquet(given / "cifar10/train.parquet", *pictures(40))
    write_parquet(given / "cifar10/test.parquet", *pictures(20, seed=1))
    decodings = []
    read = data_files.read_parquet
    monkeypatch.setattr(data_files, "read_parquet", lambda *args: decodings.append(args[0]) or read(*args))
    first = load_images("cifar10")
    assert len(decodings) == 2
    again = load_images("cifar10")
    assert len(decodings) == 2 and again.provenance() == first.provenance()
    assert torch.equal(again.train.images, first.train.images)
    (cache,) = (data_files.ROOT / "data/cache/decoded").iterdir()
    whole = cache.read_bytes()
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"garbage" * 100):
        cache.write_bytes(damaged)
        before = len(decodings)
        assert load_images("cifar10").fingerprint == first.fingerprint
        assert len(decodings) == before + 2 and len(cache.read_bytes()) == len(whole)
        assert load_images("cifar10").fingerprint == first.fingerprint and len(decodings) == before + 2
    write_parquet(given / "cifar10/train.parquet", *pictures(40, seed=2))  # other source, other key
    assert load_images("cifar10").fingerprint != first.fingerprint


def test_cache_goes_to_the_results_folder_where_the_checkout_is_read_only(given, tmp_path):
    write_parquet(given / "cifar10/train.parquet", *pictures(40))
    write_parquet(given / "cifar10/test.parquet", *pictures(20, seed=1))
    (data_files.ROOT / "data").write_text("not a folder: nothing can be written below it")
    load_images("cifar10")
    assert len(list((tmp_path / "runs/cache/decoded").iterdir())) == 1


# ---- what goes wrong ----------------------------------------------------------------------------------------


def test_unknown_dataset_suggests_a_name():
    with pytest.raises(UnknownDataset, match="Did you mean 'cifar10'"):
        load_images("CIFAR-10")
    with pytest.raises(ValueError, match="Known: digits, mnist, cifar10, cifar100"):
        load_images("imagenet")


def test_missing_data_names_three_ways_and_the_files(given):
    with pytest.raises(DataMissing) as error:
        load_images("cifar10")
    for words in ("BOOK_DATA", "data/cache/", "www.cs.toronto.edu", "data_batch_1", "train.parquet", "no network"):
        assert words in str(error.value)
    rows = {row["name"]: row for row in find_data()}
    assert set(rows) == set(DATA_NAMES)
    assert rows["digits"]["found"] and not rows["cifar10"]["found"] and "train.parquet" in rows["cifar10"]["notes"]


def test_a_wrong_book_data_is_an_error(given, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", str(given / "nowhere"))
    with pytest.raises(DataMissing, match="nowhere, which is not a folder"):
        load_images("mnist")
    assert "not a folder" in find_data()[1]["notes"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "code", "labels"])
def test_a_damaged_pickle_is_named(given, damage):
    folder = given / "cifar-10-batches-py"
    write_pickles(folder, *pictures(50), [f"data_batch_{i}" for i in range(1, 6)])
    write_pickles(folder, *pictures(10), ["test_batch"])
    victim = folder / "data_batch_3"
    victim.write_bytes(
        {
            "cut": victim.read_bytes()[:-500],
            "garbage": b"<html>404</html>",
            "code": pickle.dumps(print),
            "labels": pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [1, 2]}, protocol=2),
        }[damage]
    )
    with pytest.raises(DataDamaged, match="data_batch_3 cannot be read"):
        load_images("cifar10")


@pytest.mark.parametrize("damage", ["cut", "garbage", "short", "type"])
def test_a_damaged_idx_file_is_named(given, damage):
    (given / "mnist").mkdir()
    images, labels = pictures(60, (28, 28))
    for prefix in ("train", "t10k"):
        (given / f"mnist/{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (given / f"mnist/{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    victim = given / "mnist/t10k-images-idx3-ubyte.gz"
    victim.write_bytes(
        {
            "cut": victim.read_bytes()[:-100],
            "garbage": b"<html>404</html>",
            "short": gzip.compress(idx(images)[:-10]),
            "type": gzip.compress(b"\x00\x00\x0d" + idx(images)[3:]),
        }[damage]
    )
    with pytest.raises(DataDamaged, match="t10k-images-idx3-ubyte.gz cannot be read"):
        load_images("mnist")
    assert "t10k-images" in find_data()[1]["notes"] or damage in ("short", "type")


@pytest.mark.parametrize(
    "damage, words",
    [
        ("cut", "test.parquet cannot be read"),
        ("column", "has columns picture, label; expected img"),
        ("picture", "row 1 is not a picture"),
        ("size", "row 0 is not a picture of shape .*: it has 16 by 16 pixels"),
        ("label", "labels 0 to 12"),
        ("empty", "0 labels"),
    ],
)
def test_a_damaged_parquet_file_is_named(given, damage, words):
    write_parquet(given / "cifar10/train.parquet", *pictures(20))
    victim = given / "cifar10/test.parquet"
    if damage == "size":
        write_parquet(victim, *pictures(20, (3, 16, 16)))
    elif damage == "label":
        write_parquet(victim, *pictures(13, classes=13))
    elif damage == "empty":
        none = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pa.table({"img": pa.array([], none), "label": pa.array([], pa.int64())}), victim)
    else:
        write_parquet(victim, *pictures(20), image="picture" if damage == "column" else "img")
    if damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-50])
    if damage == "picture":
        table = pq.read_table(victim).to_pylist()
        table[1]["img"]["bytes"] = table[1]["img"]["bytes"][:40]
        pq.write_table(pa.Table.from_pylist(table), victim)
    with pytest.raises(DataDamaged, match="test.parquet") as error:
        load_images("cifar10")
    assert re.search(words, str(error.value))


@pytest.mark.parametrize(
    "labels, words",
    [
        ([0, None, 1], "row 1 has the label None, which is not a whole number"),
        (["cat", "dog", "cat"], "row 0 has the label 'cat'"),
        ([0.0, 3.5, 1.0], "row 0 has the label 0.0"),
        ([True, False, True], "row 0 has the label True"),
    ],
)
def test_a_label_that_is_no_whole_number_is_named(given, labels, words):
    write_parquet(given / "cifar10/train.parquet", pictures(3)[0], labels)
    write_parquet(given / "cifar10/test.parquet", *pictures(20))
    with pytest.raises(DataDamaged, match="train.parquet cannot be read") as error:
        load_images("cifar10")
    assert words in str(error.value)


def test_a_missing_picture_is_named(given):
    write_parquet(given / "cifar10/train.parquet", *pictures(20))
    none = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array([None], none), "label": [1]}), given / "cifar10/test.parquet")
    with pytest.raises(DataDamaged, match="test.parquet cannot be read .*row 0 is not a picture"):
        load_images("cifar10")


def test_pickled_labels_must_be_whole_numbers(given):
    folder = given / "cifar-100-python"
    write_pickles(folder, *pictures(20, classes=100), ["test"], "fine_labels")
    write_pickles(folder, pictures(20)[0], np.full(20, 3.5), ["train"], "fine_labels")
    with pytest.raises(DataDamaged, match="train cannot be read .*labels are float64, expected whole numbers"):
        load_images("cifar100")


def test_an_idx_file_is_unpacked_no_further_than_its_like(given, monkeypatch):
    monkeypatch.setattr("lib.data.formats.LARGEST_IDX", 1000)
    (given / "mnist").mkdir()
    for prefix in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (given / f"mnist/{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(DataDamaged, match="train-images.* holds more than 1,000 bytes"):
        load_images("mnist")


def test_download_lands_in_the_cache_folder(given, monkeypatch):
    import torchvision

    def fetch(root, download):
        folder = Path(root) / "cifar-10-batches-py"
        write_pickles(folder, *pictures(50), [f"data_batch_{i}" for i in range(1, 6)])
        write_pickles(folder, *pictures(10), ["test_batch"])
        print("a progress bar")

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    assert len(load_images("cifar10").test) == 10
    assert (data_files.ROOT / "data/cache/cifar-10-batches-py/test_batch").is_file()

    def broken(root, download):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets, "MNIST", broken)
    with pytest.raises(DataMissing, match="corrupted"):
        load_images("mnist")


def test_checksums_agree_with_torchvision():
    from torchvision import datasets

    for ours, theirs in ((CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)):
        listed = [tuple(pair) for pair in theirs.train_list + theirs.test_list]
        assert listed == list(zip(ours.train_files + ours.test_files, ours.checks))
        assert (ours.official, ours.url) == (theirs.base_folder, theirs.url)
    assert sorted(f"{name}.gz" for name in data_files.MNIST.train_files + data_files.MNIST.test_files) == sorted(
        name for name, _ in datasets.MNIST.resources
    )


# ---- splits and statistics ----------------------------------------------------------------------------------


def test_digits_are_always_there():
    digits = load_images("digits")
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1200, 200, 397]
    assert digits.train.images.shape[1:] == digits.shape == (1, 8, 8) and digits.train.images.dtype == torch.uint8
    assert digits.train.images.max() == 255 and digits.train.labels.dtype == torch.int64
    assert digits.fingerprint == load_images("digits").fingerprint
    assert digits.provenance() == {
        "name": "digits",
        "variant": "scikit-learn, embedded",
        "fingerprint": digits.fingerprint,
        "train": 1200,
        "validation": 200,
        "test": 397,
    }


def test_splits_are_disjoint_fixed_and_stratified():
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 10, 3000))
    parts = split_indices(labels, (2000, 600, 400))
    together = torch.cat(parts)
    assert [len(part) for part in parts] == [2000, 600, 400] and len(together.unique()) == 3000
    assert all(torch.equal(a, b) for a, b in zip(parts, split_indices(labels, (2000, 600, 400))))
    assert not torch.equal(parts[0], split_indices(labels, (2000, 600, 400), seed=1)[0])
    share = labels.bincount() / len(labels)
    for part in (*parts, parts[0][:50], parts[0][:333]):
        assert (labels[part].bincount(minlength=10) - share * len(part)).abs().max() <= 1
    assert not torch.equal(parts[0], parts[0].sort().values)
    with pytest.raises(ValueError, match="cannot take parts"):
        split_indices(labels, (3000, 1))


def test_the_split_is_the_one_of_all_earlier_results():
    """A changed split would mix validation into training between editions."""
    digits = load_images("digits")
    assert digits.train.labels[:12].tolist() == [3, 5, 1, 4, 6, 9, 7, 0, 2, 8, 3, 5]
    assert digits.train.images[0].sum().item() == 4337


def test_train_examples_is_a_balanced_prefix_and_recorded():
    whole, part = load_images("digits"), load_images("digits", train_examples=100)
    assert torch.equal(part.train.images, whole.train.images[:100])
    assert part.train.labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert part.provenance() == whole.provenance() | {"train": 100}
    assert (part.mean, part.std) == (whole.mean, whole.std)
    assert torch.equal(part.validation.images, whole.validation.images)
    for impossible in (0, 1201):
        with pytest.raises(ValueError, match="between 1 and 1200"):
            load_images("digits", train_examples=impossible)


def test_normalised_train_images_have_zero_mean_and_unit_deviation(given):
    write_parquet(given / "cifar10/train.parquet", *pictures(40))
    write_parquet(given / "cifar10/test.parquet", *pictures(20, seed=1))
    for images in (load_images("digits"), load_images("cifar10")):
        inputs = normalise(images.train.images, images)
        assert inputs.dtype == torch.float32 and inputs.shape == images.train.images.shape
        std, mean = torch.std_mean(inputs.double(), dim=(0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-5 and (std - 1).abs().max() < 1e-5
        expected = images.train.images[0] / 255 - torch.tensor(images.mean)[:, None, None]
        torch.testing.assert_close(inputs[0], expected / torch.tensor(images.std)[:, None, None], rtol=1e-5, atol=1e-5)


# ---- batches ------------------------------------------------------------------------------------------------


def test_an_epoch_visits_each_image_of_its_split_once_in_a_new_order():
    digits = load_images("digits")
    batches = ImageBatches(digits.train, digits, 100, seed=3)
    assert batches.steps == 12
    epochs = [torch.cat([batches.batch(epoch, step)[0] for step in range(12)]) for epoch in range(2)]
    for inputs in epochs:
        assert same_pixels(inputs, normalise(digits.train.images, digits).numpy())
    assert not torch.equal(*epochs)


def test_a_batch_depends_on_seed_epoch_and_step_only():
    digits = load_images("digits")
    forwards = ImageBatches(digits.train, digits, 64, EVERYTHING, seed=5)
    places = [(0, 0), (0, 7), (3, 0), (3, 7)]
    first = {place: forwards.batch(*place) for place in places}
    torch.manual_seed(99)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    backwards = ImageBatches(digits.train, digits, 64, EVERYTHING, seed=5)
    for place in reversed(places):
        inputs, targets = backwards.batch(*place)
        assert torch.equal(inputs, first[place][0]) and torch.equal(targets, first[place][1])
    assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numpy_state)
    other = ImageBatches(digits.train, digits, 64, EVERYTHING, seed=6).batch(0, 0)[0]
    everything = [inputs for inputs, _ in first.values()] + [other]
    assert all(not torch.equal(a, b) for i, a in enumerate(everything) for b in everything[:i])


def test_batches_do_not_change_the_images_they_come_from():
    digits = load_images("digits")
    before = digits.train.images.clone()
    ImageBatches(digits.train, digits, 1200, EVERYTHING).batch(0, 0)
    assert torch.equal(digits.train.images, before)


def test_sizes_of_batches():
    digits = load_images("digits")
    assert ImageBatches(digits.train, digits, 7).steps == 171  # the last three images sit this epoch out
    few = ImageBatches(Split(digits.train.images[:5], digits.train.labels[:5]), digits, 64)
    assert few.steps == 1 and len(few.batch(0, 0)[1]) == 5
    with pytest.raises(IndexError, match="outside the epoch"):
        few.batch(0, 1)
    with pytest.raises(ValueError, match="batch_size"):
        ImageBatches(digits.train, digits, 0)
    with pytest.raises(ValueError, match="too much for images of 8x8"):
        ImageBatches(digits.train, digits, 8, Augmentation(crop=8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_each_device_sees_the_same_batches():
    digits = load_images("digits")
    here = ImageBatches(digits.train, digits, 256, EVERYTHING).batch(1, 2)
    there = ImageBatches(digits.to("cuda").train, digits, 256, EVERYTHING).batch(1, 2)
    step = 1.01 / (255 * digits.std[0])  # one grey level, where a rounding falls the other way
    assert (here[0] - there[0].cpu()).abs().max() <= 3 * step
    torch.testing.assert_close(here[1], there[1].cpu())


# ---- the real files -----------------------------------------------------------------------------------------

#: md5 of the decoded train and test images [N, H, W, C] of the copies that the book's results are made from.
KNOWN_PIXELS = {
    "cifar10": ["625b19eea08a630340830cb99379f2b3", "af4c7d079bc3d2fac510dff9a968a417"],
    "cifar100": ["111db26282d380128f3126515677de38", "be0c700682a2a7c28dc926c097ee7f4d"],
}


def md5_of_pixels(name):
    decoded = data_files.load(DATASETS[name])
    return [
        hashlib.md5(pixels.permute(0, 2, 3, 1).contiguous().numpy()).hexdigest() for pixels in (decoded.train_images, decoded.test_images)
    ]


@real_data
def test_real_cifar10():
    if next(row for row in find_data() if row["name"] == "cifar10")["where"] is None:
        pytest.skip("BOOK_DATA holds no CIFAR-10")
    images = load_images("cifar10")
    assert [len(split) for split in (images.train, images.validation, images.test)] == [45_000, 5_000, 10_000]
    assert images.validation.labels.bincount().tolist() == [500] * 10
    assert images.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    if KNOWN_PIXELS["cifar10"] == md5_of_pixels("cifar10"):
        assert images.variant == "parquet, lossless, 111 of 60000 images with a JPEG's pixels"
    else:
        assert images.variant == "official"


@real_data
def test_real_cifar100():
    if next(row for row in find_data() if row["name"] == "cifar100")["where"] is None:
        pytest.skip("BOOK_DATA holds no CIFAR-100")
    images = load_images("cifar100")
    assert [len(split) for split in (images.train, images.validation, images.test)] == [45_000, 5_000, 10_000]
    assert images.validation.labels.bincount().tolist() == [50] * 100
    if KNOWN_PIXELS["cifar100"] == md5_of_pixels("cifar100"):
        assert images.variant == "parquet, lossless"
    else:
        assert images.variant == "official"  # whose test images stand in another order


@real_data
def test_real_mnist():
    if next(row for row in find_data() if row["name"] == "mnist")["where"] is None:
        pytest.skip("BOOK_DATA holds no MNIST")
    images = load_images("mnist")
    assert images.variant == "official"
    assert [len(split) for split in (images.train, images.validation, images.test)] == [55_000, 5_000, 10_000]
    assert (images.mean[0], images.std[0]) == pytest.approx((0.1307, 0.3081), abs=1e-3)


def test_alternating_mirrors_each_image_in_every_second_epoch():
    images = load_images("digits")
    batches = ImageBatches(images.train, images, len(images.train), Augmentation(alternate=True), seed=3)
    seen = []
    for epoch in range(4):
        inputs, labels = batches.batch(epoch, 0)
        in_order = torch.empty_like(inputs)
        in_order[batches._epoch_order(epoch)] = inputs
        seen.append(in_order)
    plain = normalise(images.train.images, images)
    other = plain.flip(-1)
    mirrored = (seen[0] == other).flatten(1).all(1)[:, None, None, None]
    assert 0.4 < mirrored.float().mean() < 0.6
    torch.testing.assert_close(seen[0], torch.where(mirrored, other, plain))
    torch.testing.assert_close(seen[1], torch.where(mirrored, plain, other))
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    with pytest.raises(ValueError, match="use one of them"):
        Augmentation(flip=True, alternate=True)


def test_damaged_data_make_a_spec_unavailable_and_the_chapter_goes_on(given):
    (given / "cifar10").mkdir()
    for split in ("train", "test"):
        (given / f"cifar10/{split}.parquet").write_bytes(b"no parquet")
    with pytest.raises(Unavailable, match="train.parquet cannot be read"):
        available_images("cifar10", None, torch.device("cpu"))
