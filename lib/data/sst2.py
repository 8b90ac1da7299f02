"""SST-2 on disk: short film reviews, positive or negative (Socher et al. 2013, in the form of GLUE, arXiv 1804.07461).

Lookup order: ``sst2/`` or ``SST-2/`` in the folder named by ``BOOK_DATA`` → in ``data/cache/`` → in ``cache/`` under the
results folder → Hugging Face, by its package ``datasets`` where that is installed.  Files are GLUE's ``train.tsv`` and
``dev.tsv`` (columns sentence, label), or parquet, ``train`` and ``validation``, with the same columns.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.data import hugging_face
from lib.data.files import DataMissing, data_folders
from lib.data.formats import DataDamaged
from lib.data.images import SPLIT_SEED
from lib.data.parts import all_or_none, first_whole, parquet_splits, with_subfolders

HOME = "stanfordnlp/sst2"

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


def find() -> tuple[tuple[Path, ...], ...] | None:
    """The files of the train and of the dev split in the first folder that holds any, or None.  Downloads nothing.

    Raises :class:`lib.data.parts.Incomplete`, naming what is lacking, where a folder holds only a part of them.
    """
    names = ("train.tsv", "dev.tsv")

    def find_in(place: Path) -> tuple[tuple[Path, ...], ...] | None:
        tables = [(place / name,) if (place / name).is_file() else () for name in names]
        return all_or_none(place, tables, names) or parquet_splits(place, ("train", "validation"))

    for folder in data_folders():
        places = [*with_subfolders(folder / "sst2"), *with_subfolders(folder / "SST-2")]
        if files := first_whole(places, find_in):
            return files
    return None


def find_reviews() -> list[dict[str, Any]]:
    """Where SST-2 stands on this machine, like :func:`lib.data.images.find_data`.  Downloads nothing."""
    about = {"name": "sst2", "found": False, "where": None, "variant": None, "notes": ""}
    try:
        if files := find():
            rows = tuple(len(read_all(paths)) for paths in files)
            return [about | {"found": True, "where": str(files[0][0].parent), "variant": variant(*rows)}]
        about["notes"] = "downloaded with the package datasets (5 MB), or supply sst2/ with train.tsv and dev.tsv"
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
    train, test = (read_all(paths) for paths in files)
    found = variant(len(train), len(test))
    digest = hashlib.sha256(repr((sorted(train), sorted(test))).encode()).hexdigest()[:16]  # whatever the order of the rows
    train.sort()
    shuffled = [train[i] for i in np.random.RandomState(SPLIT_SEED).permutation(len(train))]
    size = min(VALIDATION, len(train) // 10)
    tested = {sentence.strip() for sentence, _ in test}
    validation = [row for row in shuffled[:size] if row[0].strip() not in tested]
    known = tested | {sentence.strip() for sentence, _ in validation}
    return Reviews([row for row in shuffled[size:] if row[0].strip() not in known], validation, test, found, digest)


def read_all(paths: tuple[Path, ...], classes: int = 2) -> Rows:
    return [row for path in paths for row in read(path, classes)]


def read(path: Path, classes: int = 2) -> Rows:
    """All rows of one file.  Raises :class:`DataDamaged`, naming it, for anything but sentences with labels 0, 1, …"""
    try:
        if path.suffix == ".tsv":
            with open(path, encoding="utf-8-sig", newline="") as file:  # some editors and tools put a mark in front
                read_rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                table = [(row["sentence"], row["label"]) for row in read_rows]
        else:
            import pyarrow.parquet  # imported here: slow, and not needed for tsv

            columns = pyarrow.parquet.read_table(path, columns=["sentence", "label"])
            table = list(zip(columns["sentence"].to_pylist(), columns["label"].to_pylist()))
        for number, (sentence, label) in enumerate(table, start=1):
            if not isinstance(sentence, str) or str(label) not in map(str, range(classes)):
                raise ValueError(
                    f"row {number} has the sentence {sentence!r:.60} and the label {label!r:.60}; "
                    f"expected a text, and {'0 or 1' if classes == 2 else f'a class from 0 to {classes - 1}'}"
                )
        if len(table) < 2:
            raise ValueError("expected rows of a sentence and a label")
        rows = [(sentence, int(label)) for sentence, label in table]
    except Exception as error:  # a parser fed with garbage may raise anything
        raise DataDamaged(
            f"{path} cannot be read ({type(error).__name__}: {error}). It is damaged or not what its name "
            "says: delete it, or put a fresh copy in its place."
        ) from error
    return rows


def download() -> tuple[tuple[Path, ...], ...]:
    """The official splits from Hugging Face, as parquet in the first cache folder that can be written.

    Raises :class:`DataMissing`, naming the three ways to supply them.
    """
    return hugging_face.download(
        HOME,
        "sst2",
        find,
        called="SST-2",
        size="5 MB",
        expected="sst2/ with train.tsv and dev.tsv (GLUE's), or train.parquet and validation.parquet (columns sentence, label)",
    )
