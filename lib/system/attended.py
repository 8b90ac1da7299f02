"""Processes that end with the one that started them, however that one ended.

``python attended.py MODULE WORDS`` runs a module as ``python -m MODULE WORDS`` does.  A process killed by ``kill -9`` takes
nothing along: papermill would go on for minutes, hold the locks of its results, and write a notebook that nobody asked for.

This file imports nothing of the book, so that it can be started by its path from any folder.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

LOOK_EVERY_SECONDS = 0.5

#: What a process that was asked to end may take to do so, its kernel included.
PATIENCE_SECONDS = 10.0


def end_with_parent(sent: int = signal.SIGINT) -> None:
    """Send this process ``sent`` when its parent has ended, and end it without asking if it is still there a while later."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_SECONDS)
        os.kill(os.getpid(), sent)
        time.sleep(PATIENCE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()


if __name__ == "__main__":
    sys.path[0] = ""  # the working folder, as with -m; a file's own folder would come first otherwise
    del sys.argv[0]
    end_with_parent()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
