"""Progress of :func:`lib.runs.store.obtain`, for people watching a terminal.

Chapters run in kernels whose output is stored, so nothing is drawn there.  Events are appended to the file
named by ``BOOK_PROGRESS`` as JSON lines, and :mod:`lib.book.bars` draws them; the command line, which runs
Specs in its own process, hangs a function into ``watchers`` instead.  Under ``torchrun`` rank 0 speaks.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lib.system import distributed

watchers: list[Callable[[dict[str, Any]], None]] = []


@dataclass
class Progress:
    """Counts finished Specs of one ``obtain`` and tells of each step."""

    total: int
    done: int = 0
    last: float = field(default=float("-inf"), repr=False)

    def running(self, label: str, fraction: float, text: str = "") -> None:
        """``fraction`` of the Spec in hand is done.  At most two events a second are told."""
        if time.monotonic() - self.last > 0.5:
            self.emit(label, min(fraction, 0.999), text)  # 1 is kept for what is finished

    def finished(self, label: str, text: str) -> None:
        """The Spec is dealt with; ``text`` says how: "replayed", "ran" or why there is no result."""
        self.done += 1
        self.emit(label, 1.0, text)

    def emit(self, label: str, fraction: float, text: str) -> None:
        if not distributed.is_main():
            return
        self.last = time.monotonic()
        event = {"spec": label, "done": self.done, "total": self.total, "fraction": round(fraction, 3), "text": text}
        for watch in watchers:
            watch(event)
        if path := os.environ.get("BOOK_PROGRESS"):
            # Nothing is lost with it: a full disk must not stop what it tells of, nor a build that was killed and its folder.
            with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as out:
                out.write(json.dumps(event) + "\n")
