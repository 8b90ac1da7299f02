"""CoLA and TREC on disk: single sentences with a class each, in the same tables as SST-2's.

CoLA  is a sentence English as its speakers would say it?  1: yes (Warstadt et al., arXiv 1805.12471)
TREC  what does a question ask for: an abbreviation, a thing, a description, a person, a place, a number?  (Li and Roth 2002)

Lookup order: ``cola/`` or ``trec/`` in the folder named by ``BOOK_DATA`` → in ``data/cache/`` → in ``cache/`` under the
results folder.  Files are ``train.tsv`` and ``dev.tsv`` (TREC: ``test.tsv``), columns sentence, label.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.files import DataMissing, data_folders
from lib.data.formats import DataDamaged
from lib.data.images import SPLIT_SEED
from lib.data.parts import all_or_none, first_whole, with_subfolders
from lib.data.sst2 import Reviews, read
from lib.system.checks import one_of


@dataclass(frozen=True)
class Sentences:
    """A data set of this kind: its files, how many classes it has, and its official numbers of rows."""

    title: str
    classes: int
    files: tuple[str, str]
    rows: tuple[int, int]
    home: str


SETS = {
    "cola": Sentences("CoLA", 2, ("train.tsv", "dev.tsv"), (8_551, 1_043), "https://nyu-mll.github.io/CoLA/"),
    "trec": Sentences("TREC", 6, ("train.tsv", "test.tsv"), (5_452, 500), "https://cogcomp.seas.upenn.edu/Data/QA/QC/"),
}

#: Share of the train rows that are held out for validation.
VALIDATION = 0.1


def find(name: str) -> tuple[Path, ...] | None:
    """The train and the test file in the first folder that holds any, or None.

    Raises :class:`lib.data.parts.Incomplete`, naming what is lacking, where a folder holds one of them only.
    """
    names = SETS[name].files

    def find_in(place: Path) -> tuple[Path, ...] | None:
        paths = [place / file for file in names]
        return all_or_none(place, [path if path.is_file() else None for path in paths], names)

    for folder in data_folders():
        if files := first_whole(with_subfolders(folder / name), find_in):
            return files
    return None


def load(name: str) -> Reviews:
    """ "cola" or "trec" in splits, rows of (sentence, class).

    test: CoLA's official dev split, whose test labels are not public, and TREC's test split.  validation: a tenth of the
    official train rows, drawn with a fixed seed.  train: the others, shuffled by the same draw, without those whose sentence
    is one of validation or test, whatever its case.

    Raises ValueError for an unknown name, :class:`DataMissing` naming the ways to supply it, and :class:`DataDamaged` naming
    the file.
    """
    one_of("name", name, SETS)
    about, files = SETS[name], find(name)
    if files is None:
        raise DataMissing(
            f"{about.title} is not on this machine. Supply it in one of two ways:\n"
            "  1. set the environment variable BOOK_DATA to a folder that holds it;\n"
            "  2. put it into the folder data/cache/ of the book.\n"
            f"The files expected in such a folder: {name}/ with {' and '.join(about.files)} (columns sentence, label), from "
            f"{about.home}."
        )
    train, test = (read(path, about.classes) for path in files)
    digest = hashlib.sha256(repr((sorted(train), sorted(test))).encode()).hexdigest()[:16]
    variant = (
        "all rows of the official splits"
        if (len(train), len(test)) == about.rows
        else f"sample of {len(train)} rows (and {len(test)} for testing)"
    )
    train.sort()
    shuffled = [train[i] for i in np.random.RandomState(SPLIT_SEED).permutation(len(train))]
    size = max(1, round(VALIDATION * len(train)))
    tested = {bare(sentence) for sentence, _ in test}
    validation = [row for row in shuffled[:size] if bare(row[0]) not in tested]
    known = tested | {bare(sentence) for sentence, _ in validation}
    return Reviews([row for row in shuffled[size:] if bare(row[0]) not in known], validation, test, variant, digest)


def bare(sentence: str) -> str:
    return sentence.strip().lower()


def find_sentences() -> list[dict[str, Any]]:
    """Where these sets stand on this machine, like :func:`lib.data.images.find_data`."""
    found = []
    for name, about in SETS.items():
        entry = {"name": name, "found": False, "where": None, "variant": None, "notes": f"supply {name}/ with {' and '.join(about.files)}"}
        try:
            if files := find(name):
                load(name)
                entry |= {"found": True, "where": str(files[0].parent), "variant": load(name).variant, "notes": ""}
        except (DataMissing, DataDamaged) as error:
            entry["notes"] = str(error)
        found.append(entry)
    return found
