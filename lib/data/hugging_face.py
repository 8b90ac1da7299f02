"""Data sets from Hugging Face as parquet files in a cache folder, by its package ``datasets`` where that is installed."""

from __future__ import annotations

import importlib
import os
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lib.data.files import DataMissing, cache_folders

F = TypeVar("F")


def download(home: str, folder: str, find: Callable[[], F | None], *, called: str, size: str, expected: str) -> F:
    """The official splits of the data set ``home``, as parquet in ``folder`` of the first cache folder that can be written.

    find      what looks for the files afterwards, and returns them
    called    the data set's name; ``size`` of the download and the files ``expected``, in words, for the message
    Raises :class:`DataMissing`, naming the three ways to supply them.
    """
    try:
        source = importlib.import_module("datasets")  # by name: optional, no dependency of the book
        url = f"https://huggingface.co/datasets/{home}/resolve/main/README.md"
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):
            pass  # a short probe: without it, an unreachable host holds the caller for minutes
        splits = source.load_dataset(home)
        for place in cache_folders():
            if save(splits, place / folder) and (files := find()):
                return files
        raise OSError("no folder to download to can be written: " + ", ".join(map(str, cache_folders())))
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise DataMissing(
            f"{called} is not on this machine and could not be downloaded ({error}). Supply it in one of three ways:\n"
            "  1. set the environment variable BOOK_DATA to a folder that holds it;\n"
            "  2. put it into the folder data/cache/ of the book;\n"
            f"  3. install the package datasets and run once with network access to huggingface.co ({size}).\n"
            f"The files expected in such a folder: {expected}."
        ) from error


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
