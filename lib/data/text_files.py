"""TinyStories on disk: lookup, reading, splits, download.

Lookup order: ``tinystories/`` in the folder named by ``BOOK_DATA`` → in ``data/cache/`` → in ``cache/`` under
the results folder → Hugging Face, by its package ``datasets`` where that is installed.  Files are parquet
with a column ``text``: ``train.parquet`` and ``validation.parquet``, or Hugging Face's numbered parts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data import hugging_face
from lib.data.files import data_folders
from lib.data.formats import DataDamaged
from lib.data.images import SPLIT_SEED
from lib.data.parts import first_whole, parquet_splits, with_subfolders

HOME = "roneneldan/TinyStories"

#: Stories in the official splits (Eldan and Li, arXiv 2305.07759).
OFFICIAL_TRAIN, OFFICIAL_VALIDATION = 2_119_719, 21_990

#: The share of the train stories held out for validation, and the fewest.
VALIDATION_SHARE, FEWEST_VALIDATION = 0.05, 200


@dataclass(frozen=True)
class Files:
    """The parquet files of the two official splits."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return self.train[0].parent

    @property
    def digest(self) -> str:
        """sha256 of the contents of all files."""
        digest = hashlib.sha256()
        for path in (*self.train, *self.validation):
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class Texts:
    """Stories in three disjoint splits, and which variant they are."""

    train: list[str]
    validation: list[str]
    test: list[str]
    variant: str


def find() -> Files | None:
    """The files in the first folder that holds any, or None.  Downloads nothing.

    Raises :class:`lib.data.parts.Incomplete`, naming what is lacking, where a folder holds only a part of them.
    """
    for folder in data_folders():
        if found := first_whole(with_subfolders(folder / "tinystories"), lambda place: parquet_splits(place, ("train", "validation"))):
            return Files(*found)
    return None


def rows(paths: tuple[Path, ...]) -> int:
    """Stories in these files, from their headers alone.  Raises :class:`DataDamaged`, naming the file."""
    import pyarrow.parquet  # imported here: slow, and not needed once tokens are cached

    def count(path: Path) -> int:
        try:
            return pyarrow.parquet.read_metadata(path).num_rows
        except Exception as error:  # a parser fed with garbage may raise anything
            raise _damaged(path, error) from error

    return sum(map(count, paths))


def variant(train: int, validation: int) -> str:
    """``"official"``, or how much of it there is."""
    if (train, validation) == (OFFICIAL_TRAIN, OFFICIAL_VALIDATION):
        return "official"
    return f"sample of {train} stories (and {validation} for testing)"


def read(files: Files) -> Texts:
    """All stories, in splits.

    test: the official validation split.  validation: 5 % of the official train stories, at least 200,
    drawn with a fixed seed.  train: the others, shuffled by the same draw, so that the first N are a sample.
    Two things are left out: blank stories, and train stories that are exactly a story of validation or
    test.  One thing is altered, see :func:`repaired`; the variant says in how many stories.

    Raises :class:`DataDamaged`, naming the file.
    """
    (train, mended), (test, mended_too) = (_repaired(_stories(paths)) for paths in (files.train, files.validation))
    label = variant(rows(files.train), rows(files.validation))
    if mended + mended_too:
        label += f", quotation marks and dashes repaired in {mended + mended_too}"
    tested = set(test)
    train = [story for story in train if story not in tested]
    size = max(FEWEST_VALIDATION, round(VALIDATION_SHARE * len(train)))
    if len(train) <= size or not test:
        raise DataDamaged(f"{files.folder} holds {len(train)} train and {len(test)} validation stories: more than {size} and 0 are needed.")
    # RandomState, because numpy promises that its stream never changes (NEP 19).
    shuffled = [train[i] for i in np.random.RandomState(SPLIT_SEED).permutation(len(train))]
    held = shuffled[:size]
    known = set(held)
    return Texts([story for story in shuffled[size:] if story not in known], held, test, label)


def repaired(story: str) -> str:
    """Undo one damage met in the validation split: UTF-8 punctuation that was read as Windows-1252.

    "â€œ" is “, "â€™" is ’, "â€“" is –.  Of ”, whose last byte Windows-1252 does not know, "â€" is left.
    """
    return re.sub("â€(.?)", _punctuation, story, flags=re.DOTALL) if "â€" in story else story


def _punctuation(match: re.Match) -> str:
    try:
        return match[0].encode("cp1252").decode("utf-8")
    except UnicodeError:
        return "”" + match[1]


def _repaired(stories: Iterable[str]) -> tuple[list[str], int]:
    """The stories that are not blank, and how many were changed."""
    given = [story for story in stories if story.strip()]
    mended = [repaired(story) for story in given]
    return mended, sum(old != new for old, new in zip(given, mended))


def _stories(paths: tuple[Path, ...]) -> Iterator[str]:
    import pyarrow.parquet

    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                if "text" not in file.schema_arrow.names:
                    raise ValueError(f"has columns {', '.join(file.schema_arrow.names)}; expected text")
                for batch in file.iter_batches(columns=["text"]):
                    stories = batch.column("text").to_pylist()
                    if not all(isinstance(story, str) for story in stories):
                        raise ValueError("the column text holds something that is not text")
                    yield from stories
        except Exception as error:  # a parser fed with garbage may raise anything
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataDamaged:
    return DataDamaged(
        f"{path} cannot be read ({type(error).__name__}: {error}). It is damaged or not what its name "
        "says: delete it, or put a fresh copy in its place."
    )


def download() -> Files:
    """The official splits from Hugging Face, as parquet in the first cache folder that can be written.

    Raises :class:`DataMissing`, naming the three ways to supply them.
    """
    return hugging_face.download(
        HOME,
        "tinystories",
        find,
        called="TinyStories",
        size="1 GB",
        expected="tinystories/ with train.parquet and validation.parquet (column text)",
    )
