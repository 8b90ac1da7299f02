"""Folders that a reader names: in ``BOOK_RUNS``, in ``BOOK_DATA``, or as a parameter."""

from __future__ import annotations

import os
from pathlib import Path

from lib import ROOT


def named(text: str) -> Path:
    """The folder of that name; a leading ``~`` is the home folder, also where no shell has seen to it.

    Raises ValueError for the home of somebody this machine does not know.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"the folder {text!r} cannot be found: {error}") from error


def own_runs() -> Path:
    """The reader's own results: the folder that ``BOOK_RUNS`` names, or ``runs/`` of the book."""
    given = os.environ.get("BOOK_RUNS")
    return named(given) if given else ROOT / "runs"
