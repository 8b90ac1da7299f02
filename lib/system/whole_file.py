"""Files that a reader finds whole or not at all, whatever happens to the writer."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

#: What the operating system says where there is no room: on the disk, in the quota, or for a file of this size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(OSError):
    """A file could not be written for lack of space; the message says what to do."""


@contextlib.contextmanager
def replacing(path: Path, movable: str | None = "BOOK_RUNS") -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` when the block ends without an error.

    It is on the disk before it takes that place, so that a power cut leaves the old content or the new.
    ``movable``  the variable that names another folder for such files; None where there is none

    Raises :class:`NoRoom` where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise NoRoom(error.errno, advice(path, os.strerror(error.errno), movable)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def advice(path: Path | str, why: str, movable: str | None) -> str:
    elsewhere = f", or set {movable} to a folder on another disk" if movable else ""
    return f"{path} could not be written ({why}). Make room{elsewhere}; the same command carries on from what is stored"


def without_room(error: OSError) -> str | None:
    """Return what to do, in one line, where there was no room to write; None for any other error."""
    if isinstance(error, NoRoom):
        return error.strerror
    if error.errno in NO_ROOM:
        return advice(error.filename or "a file", os.strerror(error.errno or 0), None)
    # A tree that was copied in part: pairs of paths with the text of an error each.
    for number in NO_ROOM:
        if isinstance(error, shutil.Error) and f"[Errno {number}]" in str(error):
            return advice(error.args[0][0][1], os.strerror(number), None)
    return None


def sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk; not every system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
