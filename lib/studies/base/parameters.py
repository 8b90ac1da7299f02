"""A chapter's parameters: what papermill's ``-p`` and ``python -m lib run -p`` may set.

Papermill only warns about a misspelt parameter and never checks a type, so each chapter's first code cell
hands its names to :func:`checked` and the command line does the same.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from lib.runs.scales import cannot_run, check_scale
from lib.system.checks import did_you_mean, require

#: No parameter means anything at this size, and numbers from here on overflow somewhere else: inf is beyond it, nan is not below.
LARGEST = 10**12

#: Most random seeds per configuration.
MOST_SEEDS = 100

#: Most numbers in a list.
MOST_NUMBERS = 100

#: Characters of a wrong value that a message repeats.
LONGEST = 60


@dataclass(frozen=True, kw_only=True)
class ChapterParameters:
    """What every chapter takes.  A knob left at None follows the scale."""

    scale: str = "laptop"  # smoke | laptop | cpu | gpu
    seeds: int | None = None  # number of random seeds per configuration
    recompute: bool = False  # run again what is stored already

    def __post_init__(self) -> None:
        check_scale(self.scale)
        require(self.seeds is None or self.seeds >= 1, f"seeds is a count and must be at least 1, not {self.seeds}")
        require(self.seeds is None or self.seeds <= MOST_SEEDS, f"seeds is a count and must be at most {MOST_SEEDS}, not {self.seeds}")

    @property
    def replay_only(self) -> bool:
        """Whether nothing may be run, only replayed, whatever is missing."""
        return False

    @property
    def hindrance(self) -> str | None:
        """Why a run with these parameters only replays; None when it may train."""
        return "these parameters ask for stored results only" if self.replay_only else cannot_run(self.scale)


P = TypeVar("P", bound=ChapterParameters)


def checked(cls: type[P], values: dict[str, Any]) -> P:
    """``cls(**values)`` after checking names, types and sizes.

    A float parameter takes a whole number too, as a float, since sums of whole numbers may grow beyond what torch takes;
    and a text parameter the text of a number: papermill and the command line read 50 as a number before anybody knows
    what it is for.

    Raises ValueError (unknown name, with the nearest known one; a number that is not finite, or too large) or
    TypeError (wrong type).
    """
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    given = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}.{did_you_mean(name, known)} This chapter takes: {', '.join(known)}.")
        if is_number(value) and takes_text(hints[name]):
            value = str(value)
        if is_number(value) and not abs(value) < LARGEST:
            raise ValueError(f"parameter {name!r} takes numbers below {LARGEST:,}, not {value if isinstance(value, float) else 'more'}")
        if not fits(value, hints[name]):
            raise TypeError(f"parameter {name!r} takes {spelled(hints[name])}, not {shown(repr(value))} ({type(value).__name__})")
        given[name] = float(value) if is_number(value) and takes(hints[name], float) and not takes(hints[name], int) else value
    return cls(**given)


def given(**values: Any) -> dict[str, Any]:
    """Return what a reader has set, those that are None left out: changes for ``replace``."""
    return {name: value for name, value in values.items() if value is not None}


def numbers(name: str, text: str) -> tuple[float, ...]:
    """The numbers of a parameter that lists some, separated by commas.  Raises ValueError for anything else."""
    try:
        found = tuple(float(part) for part in text.split(",", maxsplit=MOST_NUMBERS))
    except ValueError:
        found = ()
    require(found and all(abs(number) < LARGEST for number in found), f"{name} is {shown(repr(text))}: give numbers, separated by commas")
    return found


def takes_text(hint: Any) -> bool:
    """Whether a parameter of this type takes any text, and no numbers."""
    return takes(hint, str) and not takes(hint, int) and not takes(hint, float)


def takes(hint: Any, kind: type) -> bool:
    return kind in (typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,))


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return is_number(value)
    if hint is int:
        return is_number(value) and isinstance(value, int)
    return isinstance(value, hint)


def spelled(hint: Any) -> str:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return " or ".join("None" if part is type(None) else part.__name__ for part in parts)


def shown(text: str) -> str:
    """What was given, for a message of one line."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
