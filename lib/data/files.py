"""Where the image datasets lie: lookup, download, and a cache of decoded pixels.

Lookup order: the folder named by ``BOOK_DATA`` → ``data/cache/`` → ``cache/`` under the results folder
(only used where ``data/cache/`` cannot be written) → the official download, checked by torchvision.
Two forms are read, the official one and Hugging Face style parquet; :mod:`lib.data.formats` reads them.
"""

import hashlib
import os
import sys
import tempfile
import urllib.request
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib import ROOT
from lib.data.catalogue import MNIST, Dataset
from lib.data.formats import (
    LOSSLESS,
    DataDamaged,
    DataMissing,
    idx_bytes,
    parquet_format,
    parse_idx,
    read_parquet,
    read_pickles,
)
from lib.data.parts import all_or_none, first_whole, parquet_splits, with_subfolders
from lib.runs import tensor_file
from lib.system import folders
from lib.system.whole_file import replacing


@dataclass(frozen=True)
class Files:
    """The files of one dataset as found on disk: ``form`` is ``"official"`` or ``"parquet"``."""

    form: str
    train: tuple[Path, ...]
    test: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return self.train[0].parent


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoded pixels: uint8 ``[N, C, H, W]``, int64 labels ``[N]``, and which variant they are."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    variant: str

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the sha256 of all pixels and labels."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def cache_folders() -> list[Path]:
    """Folders of our own for downloads and decoded pixels, the preferred one first."""
    return [ROOT / "data" / "cache", folders.own_runs() / "cache"]


def data_folders() -> list[Path]:
    """Folders in which datasets are looked for, in this order.

    Raises :class:`DataMissing` when ``BOOK_DATA`` names something that is not a folder, rather than
    quietly using other data.
    """
    own = os.environ.get("BOOK_DATA")
    if own and not folders.named(own).is_dir():
        raise DataMissing(f"BOOK_DATA is set to {own}, which is not a folder. Correct it or unset it.")
    return ([folders.named(own)] if own else []) + cache_folders()


def find(dataset: Dataset) -> Files | None:
    """The dataset's files in the first folder that holds any, or None.  Downloads nothing.

    Raises :class:`lib.data.parts.Incomplete`, naming what is lacking, where a folder holds only a part of them.
    """
    names = dataset.train_files + dataset.test_files

    def find_in(place: Path) -> Files | None:
        if found := all_or_none(place, [_plain_or_zipped(place / name) for name in names], names):
            return Files("official", found[: len(dataset.train_files)], found[len(dataset.train_files) :])
        found = parquet_splits(place, ("train", "test"))
        return Files("parquet", *found) if found else None

    for folder in data_folders():
        home = folder / dataset.name
        places = (folder / dataset.official, home / dataset.official, *with_subfolders(home))
        if files := first_whole(places, find_in):
            return files
    return None


def _plain_or_zipped(path: Path) -> Path | None:
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.is_file()), None)


def load(dataset: Dataset) -> Decoded:
    """The dataset's pixels and labels, from disk or else from the official download.

    Raises :class:`DataMissing` when it cannot be had, :class:`DataDamaged` when a file is unreadable.
    """
    files = find(dataset) or _download(dataset)
    if files.form == "official":
        return _read_official(dataset, files)
    decoded = _read_parquet_cached(dataset, files)
    return replace(decoded, variant=decoded.variant + _exceptions(dataset, files))


def variant(dataset: Dataset, files: Files) -> str:
    """Which variant the files hold, without decoding all of them (for ``doctor``)."""
    if files.form == "parquet":
        return _parquet_variant({parquet_format(files.train[0], dataset.label)}) + _exceptions(dataset, files)
    return _official_variant(dataset, [_content(path) for path in files.train + files.test])


def _content(path: Path) -> bytes:
    return idx_bytes(path) if "ubyte" in path.name else path.read_bytes()


def _official_variant(dataset: Dataset, contents: list[bytes]) -> str:
    matches = all(hashlib.md5(content).hexdigest() == check for content, check in zip(contents, dataset.checks, strict=True))
    return "official" if matches else "official layout, other content (checksums differ)"


def _parquet_variant(formats: set[str]) -> str:
    if formats <= LOSSLESS:
        return "parquet, lossless"
    return f"parquet, {'+'.join(sorted(formats - LOSSLESS))} re-encoding"


def _exceptions(dataset: Dataset, files: Files) -> str:
    """Return what the variant adds where ``not_exact.tsv`` (a header, then a line per image) lists stand-ins."""
    listed = files.folder / "not_exact.tsv"
    if not listed.is_file():
        return ""
    count = sum(bool(line.strip()) for line in listed.read_text(encoding="utf-8").splitlines()[1:])
    return f", {count} of {dataset.train + dataset.test} images with a JPEG's pixels"


def _checked(dataset: Dataset, files: Files, train: tuple, test: tuple, kind: str) -> Decoded:
    """Arrays → tensors, after checking that labels and counts make sense; notes a partial copy in the variant."""
    for (images, labels), path in ((train, files.train[0]), (test, files.test[0])):
        if len(labels) == 0 or len(images) != len(labels) or images.shape[1:] != dataset.shape:
            raise DataDamaged(
                f"{path} holds {images.shape} images and {len(labels)} labels; "
                f"{dataset.title} has images of shape {dataset.shape}, one label each."
            )
        if labels.min() < 0 or labels.max() >= dataset.classes:
            raise DataDamaged(
                f"{path} has labels {labels.min()} to {labels.max()}; {dataset.title} has classes 0 to {dataset.classes - 1}."
            )
    counts, whole = (len(train[1]), len(test[1])), (dataset.train, dataset.test)
    if counts != whole:
        kind += f", {counts[0]} of {whole[0]} train and {counts[1]} of {whole[1]} test images"
    # np.array copies: arrays that point into a file's bytes are read-only, which torch does not support.
    return Decoded(*(torch.from_numpy(np.array(array)) for array in (*train, *test)), variant=kind)


def _read_official(dataset: Dataset, files: Files) -> Decoded:
    contents = [_content(path) for path in files.train + files.test]
    kind = _official_variant(dataset, contents)
    if dataset is MNIST:
        arrays = [parse_idx(raw, path) for raw, path in zip(contents, files.train + files.test, strict=True)]
        train, test = ((arrays[i][:, None], arrays[i + 1].astype(np.int64)) for i in (0, 2))
    else:
        train, test = (read_pickles(paths, f"{dataset.label}s", dataset.shape) for paths in (files.train, files.test))
    return _checked(dataset, files, train, test, kind)


def _read_parquet_cached(dataset: Dataset, files: Files) -> Decoded:
    """Decode the pictures once; afterwards read one uncompressed file, keyed by the sources' sha256.

    The cache file carries the fingerprint of its pixels.  One that does not match (a damaged disk, a
    killed writer) is decoded and written anew.
    """
    digest = hashlib.sha256(b"2")  # the layout of the cache file, and how variants are told apart
    for path in files.train + files.test:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    name = f"decoded/{dataset.name}-{digest.hexdigest()[:16]}.safetensors"
    for folder in cache_folders():
        if (cached := _read_cache(folder / name)) is not None:
            return cached
    *train, train_formats = read_parquet(files.train, dataset.label, dataset.shape)
    *test, test_formats = read_parquet(files.test, dataset.label, dataset.shape)
    decoded = _checked(dataset, files, tuple(train), tuple(test), _parquet_variant(train_formats | test_formats))
    for folder in cache_folders():
        if _write_cache(folder / name, decoded):
            break
    return decoded


def _read_cache(path: Path) -> Decoded | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            # clone: the tensors are windows into the file, which may be replaced while they are in use.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
        decoded = Decoded(**tensors, variant=about.get("variant", ""))
        return decoded if decoded.fingerprint == about.get("fingerprint") else None
    except (OSError, SafetensorError, TypeError):  # absent, cut short, or other fields
        return None


def _write_cache(path: Path, decoded: Decoded) -> bool:
    """Write atomically; False where the folder cannot be written."""
    try:
        with replacing(path) as part:
            tensors = {key: getattr(decoded, key).contiguous() for key in ("train_images", "train_labels", "test_images", "test_labels")}
            tensor_file.save(tensors, part, {"variant": decoded.variant, "fingerprint": decoded.fingerprint})
            part.chmod(0o644)  # safetensors makes it private; others who share the checkout may read it
        return True
    except OSError:
        return False


def _download(dataset: Dataset) -> Files:
    """The official files through torchvision, which checks them by md5, into the first writable cache folder."""
    try:
        # A short probe first: without it, an unreachable host holds the caller for minutes.
        with urllib.request.urlopen(urllib.request.Request(dataset.url, method="HEAD"), timeout=10):
            pass
        _fetch(dataset, writable_cache())
        files = find(dataset)
    except (OSError, RuntimeError) as error:
        raise DataMissing(_how_to_supply(dataset, error)) from error
    if files is None:
        raise DataMissing(_how_to_supply(dataset, "the downloaded archive holds other files"))
    return files


def writable_cache() -> Path:
    """The first of :func:`cache_folders` that can be written, made where it is missing.  Raises OSError for none."""
    for folder in cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise OSError("no folder to download to can be written: " + ", ".join(map(str, cache_folders())))


def _fetch(dataset: Dataset, cache: Path) -> None:
    """Download and unpack in a temporary folder, then move into place: a killed download leaves no broken files."""
    from torchvision import datasets as official  # imported here: slow, and only needed to download

    fetch = {"mnist": official.MNIST, "cifar10": official.CIFAR10, "cifar100": official.CIFAR100}[dataset.name]
    # A progress bar would flood stored outputs; on a terminal it is welcome.
    with (
        tempfile.TemporaryDirectory(dir=cache) as folder,
        open(os.devnull, "w") as sink,
        nullcontext() if sys.stderr.isatty() else redirect_stderr(sink),
        redirect_stdout(sink),
    ):
        fetch(folder, download=True)
        home = cache / dataset.official
        home.mkdir(parents=True, exist_ok=True)
        for file in (Path(folder) / dataset.official).iterdir():
            os.replace(file, home / file.name)


def _how_to_supply(dataset: Dataset, reason: object) -> str:
    return (
        f"{dataset.title} is not on this machine and could not be downloaded ({reason}). Supply it in one of "
        f"three ways:\n"
        f"  1. set the environment variable BOOK_DATA to a folder that holds it;\n"
        "  2. put it into the folder data/cache/ of the book;\n"
        f"  3. run once with network access to {dataset.url.split('/')[2]} "
        f"({dataset.megabytes} MB, checked by md5).\n"
        f"The files expected in such a folder: {dataset.expects}."
    )
