"""Files that a reader finds whole or not at all, whatever happens to the writer."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

#: What the operating system says where there is no room: on the disk, in the quota, or for a file of this size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(OSError):
    """A file could not be written for lack of space; the message says what to do."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` when the block ends without an error.

    It is on the disk before it takes that place, so that a power cut leaves the old content or the new.
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
            raise NoRoom(
                error.errno,
                f"{path} could not be written ({os.strerror(error.errno)}). Make room, or set "
                "BOOK_RUNS to a folder on another disk; the same command carries on from what is stored",
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the new name itself to the disk; not every system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
