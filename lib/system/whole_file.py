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

#: Pattern of the last part of a name under which a file is written before it takes its place.
PART = "[0-9a-f]" * 32

#: What it says where nobody may write, or not this user.
NO_LEAVE = (errno.EROFS, errno.EACCES, errno.EPERM)

#: What to do then.
COPY = "Pages are made beside the chapters: copy the book to a folder that you can write to. Results alone need BOOK_RUNS only"


class NoRoom(OSError):
    """A file could not be written for lack of space; the message says what to do."""


@contextlib.contextmanager
def replacing(path: Path, movable: str | None = "BOOK_RUNS") -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` when the block ends without an error.

    It is on the disk before it takes that place, so that a power cut leaves the old content or the new.
    ``movable``  the variable that names another folder for such files; None where there is none

    Raises :class:`NoRoom` where the disk is full.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # see PART
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def copied(source: Path, path: Path) -> Path:
    """Copy a file over ``path``, whole or not at all; returns ``path``.  Errors as :func:`replacing`."""
    with replacing(path, movable=None) as part:
        shutil.copyfile(source, part)
    return path


def write_text(text: str, path: Path) -> bool:
    """Write a text over ``path``, whole or not at all; returns whether it has changed: an equal file is left alone.

    Errors as :func:`replacing`.
    """
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    with replacing(path, movable=None) as part:
        part.write_text(text, encoding="utf-8")
    return True


def advice(path: Path | str, why: str, movable: str | None) -> str:
    elsewhere = f", or set {movable} to a folder on another disk" if movable else ""
    return f"{path} could not be written ({why}). Make room{elsewhere}; the same command carries on from what is stored"


def unwritable(error: OSError) -> str | None:
    """Return what to do, in one line, where there was no room to write or no leave to; None for any other error."""
    if isinstance(error, NoRoom):
        return error.strerror
    for number in (*NO_ROOM, *NO_LEAVE):
        # Of a tree that was copied in part: its source, its target and the text of an error, for each file.
        in_part = isinstance(error, shutil.Error) and f"[Errno {number}]" in str(error)
        if error.errno == number or in_part:
            path, why = error.args[0][0][1] if in_part else error.filename or "a file", os.strerror(number)
            return advice(path, why, None) if number in NO_ROOM else f"{path} could not be written ({why}). {COPY}"
    return None


def sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk; not every system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
