"""Where a data set's files lie whole: every split there, and of numbered parts each one exactly once.

What is there in part is refused by name.  Training on the rest, or on other data from a folder further down the list,
would give numbers under the wrong title.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from lib.data.formats import DataMissing

F = TypeVar("F")
P = TypeVar("P")

#: ``train-00000-of-00004.parquet``, as Hugging Face names them, or with a checksum behind the numbers.
NUMBERED = re.compile(r"-(\d+)-of-(\d+)(-[0-9a-f]+)?\.parquet")

#: Most file names in a message.
SHOWN = 5


class Incomplete(DataMissing):
    """A data set was found in part; the message says what is missing, doubled or foreign, and where."""


def first_whole(places: Iterable[P], find: Callable[[P], F | None]) -> F | None:
    """What ``find`` returns for the first of ``places`` that holds all files; None when all hold nothing.

    find(place) raises :class:`Incomplete` for a place that holds some.  Such places are passed over where another
    is whole, and otherwise the first of them is the error.
    """
    refused = None
    for place in places:
        try:
            if (files := find(place)) is not None:
                return files
        except Incomplete as error:
            refused = refused or error
    if refused:
        raise refused
    return None


def with_subfolders(home: Path) -> list[Path]:
    """``home`` and the folders in it: snapshots from Hugging Face have their files in one of these."""
    return [home, *(sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else ())]


def parquet_splits(place: Path, splits: Sequence[str]) -> tuple[tuple[Path, ...], ...] | None:
    """The parquet files of each split in ``place``; None when it has none of any.  Raises :class:`Incomplete`."""
    found = [parts(place, split) for split in splits]
    return all_or_none(place, found, [f"{split}.parquet" for split in splits])


def all_or_none(place: Path, found: Sequence[F | None], names: Sequence[str]) -> tuple[F, ...] | None:
    """``found``, one entry for each of ``names``; None when all are empty.  Raises :class:`Incomplete` when some are."""
    if not any(found):
        return None
    if lacking := [name for name, here in zip(names, found, strict=True) if not here]:
        raise Incomplete(
            f"{place} holds a part of a data set: it lacks {listed(lacking)}. Put "
            f"{'it' if len(lacking) == 1 else 'them'} there, or remove the rest."
        )
    return tuple(here for here in found if here)


def parts(place: Path, split: str) -> tuple[Path, ...]:
    """``SPLIT.parquet`` or its numbered parts in order; empty when there is neither.  Raises :class:`Incomplete`."""
    whole = place / f"{split}.parquet"
    numbered = sorted(path for path in place.glob(f"{split}-*.parquet") if path.is_file())
    if not numbered:
        return (whole,) if whole.is_file() else ()

    def refuse(what: str) -> Incomplete:
        return Incomplete(f"{place} does not hold {split} whole: {what}. Keep the files of one download there, all of them.")

    matches = [NUMBERED.fullmatch(path.name, len(split)) for path in numbered]
    if foreign := [path.name for path, match in zip(numbered, matches) if not match]:
        raise refuse(
            f"{listed(foreign)} {'is not a part' if len(foreign) == 1 else 'are not parts'} of it, "
            f"which are named {split}-00000-of-00001.parquet and so on"
        )
    if whole.is_file():
        raise refuse(f"{whole.name} and {listed([path.name for path in numbered])} hold it twice")
    fitting = [match for match in matches if match]  # all of them, from here on
    announced = {int(match[2]) for match in fitting}
    if len(announced) > 1:
        raise refuse(f"the parts announce {' and '.join(map(str, sorted(announced)))} parts")
    numbers, wanted = [int(match[1]) for match in fitting], max(announced)
    if lacking := sorted(set(range(wanted)) - set(numbers)):
        raise refuse(f"it lacks {listed([f'{split}-{number:05}-of-{wanted:05}.parquet' for number in lacking])}")
    if numbers != list(range(wanted)):
        twice = [path.name for path, number in zip(numbered, numbers) if numbers.count(number) > 1 or number >= wanted]
        raise refuse(f"{listed(twice)} {'have one number' if len(twice) > 1 else 'has a number too many'}")
    return tuple(numbered)


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
