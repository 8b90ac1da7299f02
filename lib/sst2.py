"""SST-2 on disk: short film reviews, positive or negative (Socher et al. 2013, in the form of GLUE, arXiv 1804.07461).

Lookup order: ``sst2/`` or ``SST-2/`` in the folder named by ``BOOK_DATA`` → in ``data/cache/`` → in ``cache/`` under the
results folder → Hugging Face, by its package ``datasets`` where that is installed.  Files are GLUE's ``train.tsv`` and
``dev.tsv`` (columns sentence, label), or parquet, ``train`` and ``validation``, with the same columns.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.data import SPLIT_SEED
from lib.data_files import DataMissing, cache_folders, data_folders
from lib.data_formats import DataDamaged

HOME = "stanfordnlp/sst2"
URL = f"https://huggingface.co/datasets/{HOME}/resolve/main/README.md"

#: Rows of the official splits.  The official test split has no labels, so that its dev split is our test set.
OFFICIAL_TRAIN, OFFICIAL_DEV = 67_349, 872

#: Train rows held out for validation.
VALIDATION = 1_000

Rows = list[tuple[str, int]]


@dataclass(frozen=True)
class Reviews:
    """Rows (sentence, label: 1 is positive) in three splits, which variant they are, and a checksum of them all."""

    train: Rows
    validation: Rows
    test: Rows
    variant: str
    fingerprint: str


def find() -> tuple[Path, Path] | None:
    """The files of the train and dev splits in the first folder that has both, or None.  Downloads nothing."""
    for folder in data_folders():
        for place in (folder / "sst2", folder / "SST-2"):
            for train, dev in (("train.tsv", "dev.tsv"), ("train.parquet", "validation.parquet")):
                if (place / train).is_file() and (place / dev).is_file():
                    return place / train, place / dev
            parts = [sorted(place.glob(f"{split}-*.parquet")) for split in ("train", "validation")]
            if all(len(found) == 1 for found in parts):
                return parts[0][0], parts[1][0]
    return None


def find_reviews() -> list[dict[str, Any]]:
    """Where SST-2 stands on this machine, like :func:`lib.data.find_data`.  Downloads nothing."""
    about = {"name": "sst2", "found": False, "where": None, "variant": None, "notes": ""}
    try:
        if files := find():
            rows = tuple(len(read(path)) for path in files)
            return [about | {"found": True, "where": str(files[0].parent), "variant": variant(*rows)}]
        about["notes"] = ("downloaded when first used where the package datasets is installed (5 MB), or supply sst2/ with "
                          "train.tsv and dev.tsv")
    except (DataMissing, DataDamaged) as error:
        about["notes"] = str(error)
    return [about]


def variant(train: int, dev: int) -> str:
    """How much of the official splits there is, told by their sizes."""
    if (train, dev) == (OFFICIAL_TRAIN, OFFICIAL_DEV):
        return "all rows of the official splits"
    return f"sample of {train} rows (and {dev} for testing)"


def load() -> Reviews:
    """SST-2 in splits.

    test: the official dev split.  validation: 1,000 of the official train rows (a tenth, of a smaller sample), drawn with a
    fixed seed.  train: the others, shuffled by the same draw, without those whose sentence is one of validation or test.
    Train rows are phrases cut from reviews, so that parts of one review may lie on both sides of the validation cut.

    Raises :class:`DataMissing` naming the three ways to supply it, and :class:`DataDamaged` naming the file.
    """
    files = find() or download()
    train, test = (read(path) for path in files)
    found = variant(len(train), len(test))
    digest = hashlib.sha256(repr((sorted(train), sorted(test))).encode()).hexdigest()[:16]   # whatever the order of the rows
    train.sort()
    shuffled = [train[i] for i in np.random.RandomState(SPLIT_SEED).permutation(len(train))]
    size = min(VALIDATION, len(train) // 10)
    tested = {sentence.strip() for sentence, _ in test}
    validation = [row for row in shuffled[:size] if row[0].strip() not in tested]
    known = tested | {sentence.strip() for sentence, _ in validation}
    return Reviews([row for row in shuffled[size:] if row[0].strip() not in known], validation, test, found, digest)


def read(path: Path) -> Rows:
    """All rows of one file.  Raises :class:`DataDamaged`, naming it, for anything but sentences with labels 0 and 1."""
    try:
        if path.suffix == ".tsv":
            with open(path, encoding="utf-8", newline="") as file:
                read_rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                table = [(row["sentence"], row["label"]) for row in read_rows]
        else:
            import pyarrow.parquet  # imported here: slow, and not needed for tsv
            columns = pyarrow.parquet.read_table(path, columns=["sentence", "label"])
            table = list(zip(columns["sentence"].to_pylist(), columns["label"].to_pylist()))
        rows = [(sentence, int(label)) for sentence, label in table]
        if len(rows) < 2 or not all(isinstance(sentence, str) and label in (0, 1) for sentence, label in rows):
            raise ValueError("expected rows of a sentence and a label, 0 or 1")
    except Exception as error:  # a parser fed with garbage may raise anything
        raise DataDamaged(f"{path} cannot be read ({type(error).__name__}: {error}). It is damaged or not what its name "
                          "says: delete it, or put a fresh copy in its place.") from error
    return rows


def download() -> tuple[Path, Path]:
    """The official splits from Hugging Face, as parquet in the first cache folder that can be written.

    Raises :class:`DataMissing`, naming the three ways to supply them.
    """
    try:
        source = importlib.import_module("datasets")  # by name: optional, no dependency of the book
        with urllib.request.urlopen(urllib.request.Request(URL, method="HEAD"), timeout=10):
            pass  # a short probe: without it, an unreachable host holds the caller for minutes
        splits = source.load_dataset(HOME)
        for folder in cache_folders():
            if save(splits, folder / "sst2") and (files := find()):
                return files
        raise OSError("no folder to download to can be written: " + ", ".join(map(str, cache_folders())))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise DataMissing(
            f"SST-2 is not on this machine and could not be downloaded ({error}). Supply it in one of three ways:\n"
            "  1. set the environment variable BOOK_DATA to a folder that holds it;\n"
            "  2. put it into the folder data/cache/ of the book;\n"
            "  3. install the package datasets and run once with network access to huggingface.co (5 MB).\n"
            "The files expected in such a folder: sst2/ with train.tsv and dev.tsv (GLUE's), or train.parquet and "
            "validation.parquet (columns sentence, label).") from error


def save(splits, home: Path) -> bool:
    """Write both splits, then move them into place together; False where the folder cannot be written."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            part = Path(folder) / "part"
            part.mkdir()
            for split in ("train", "validation"):
                splits[split].to_parquet(str(part / f"{split}.parquet"))
            os.replace(part, home)
        return True
    except OSError:
        return False
