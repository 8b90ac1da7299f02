"""Execute chapters through papermill, several at a time, each in processes of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import nbformat
from nbformat import NotebookNode

from lib.book import notebooks
from lib.book.notebooks import Project
from lib.studies import Chapter
from lib.system import attended, folders
from lib.system.device import cores

POLL_SECONDS = 0.2
CELL_STARTED = re.compile(r"Executing Cell (\d+)-")


@dataclass(frozen=True)
class Failure:
    """Why a chapter stopped: in which cell (counted from 1, text cells too), with what error."""

    cell: int | None
    code: str
    error: str


@dataclass(frozen=True)
class Execution:
    """One chapter that was executed, or that stopped at ``failure``."""

    chapter: Chapter
    seconds: float
    log: Path
    rerun: str
    failure: Failure | None = None


class Watcher(Protocol):
    """What is told of progress; :mod:`lib.book.bars` shows it."""

    def started(self, chapter: Chapter, cells: int) -> None: ...
    def cell(self, chapter: Chapter, cell: int) -> None: ...
    def spec(self, chapter: Chapter, event: dict) -> None: ...
    def ended(self, execution: Execution) -> None: ...


def execute(
    project: Project, chapters: Sequence[Chapter], parameters: dict[Chapter, dict[str, Any]], folder: Path, jobs: int, watcher: Watcher
) -> list[Execution]:
    """Execute ``chapters`` with their ``parameters`` into ``folder/chapters``, at most ``jobs`` at a time.

    Those that summarise the others wait until these have ended.  A chapter that fails leaves its notebook as
    far as it came, and the others are executed all the same.
    """
    threads = max(1, cores() // jobs)
    shutil.rmtree(working(folder), ignore_errors=True)  # of a build that was killed: nothing can be written there any more
    waiting = [
        Run(project, chapter, parameters[chapter], folder, threads) for chapter in sorted(chapters, key=lambda chapter: chapter.summarises)
    ]
    running: list[Run] = []
    ended: list[Execution] = []
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not (running and waiting[0].chapter.summarises):
                running.append(waiting.pop(0))
                running[-1].start(watcher)
            time.sleep(POLL_SECONDS)
            for run in list(running):
                run.follow(watcher)
                if run.process.poll() is not None:
                    run.follow(watcher)
                    running.remove(run)
                    ended.append(run.end())
                    watcher.ended(ended[-1])
    finally:
        for run in running:
            run.stop()
        signal.signal(signal.SIGTERM, previous)
    return sorted(ended, key=lambda execution: execution.chapter.number)


@dataclass
class Run:
    """A papermill process and what it writes."""

    project: Project
    chapter: Chapter
    parameters: dict[str, Any]
    folder: Path
    threads: int
    process: subprocess.Popen = field(init=False, repr=False)
    begin: float = field(init=False)
    open_files: ExitStack = field(init=False, repr=False, default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.source = self.project.source(self.chapter)
        self.target = self.folder / "chapters" / self.source.name
        self.log = self.folder / "logs" / f"{self.chapter.slug}.log"
        # What a killed build's papermill may still write to is in no other build's way: these names are this process's own.
        self.made = working(self.folder) / f"{self.chapter.slug}.{os.getpid()}.ipynb"
        self.events = self.made.with_suffix(".progress")

    def start(self, watcher: Watcher) -> None:
        for path in (self.target, self.log, self.made):
            path.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.target, self.log):
            path.unlink(missing_ok=True)
        self.events.write_text("")
        log = self.open_files.enter_context(open(self.log, "w", encoding="utf-8"))
        self.lines = Tail(self.open_files.enter_context(open(self.log, encoding="utf-8", errors="replace")))
        self.told = Tail(self.open_files.enter_context(open(self.events, encoding="utf-8")))
        watcher.started(self.chapter, len(notebooks.read(self.source).cells) + 1)
        self.begin = time.monotonic()
        self.process = subprocess.Popen(
            self.command(), cwd=self.project.root, env=self.environment(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def command(self) -> list[str]:
        # Written at the end or at a failure, not after each of some 70 cells: that takes as long as a replay itself.
        return [
            sys.executable,
            attended.__file__,
            "papermill",
            str(self.source),
            str(self.made),
            "-k",
            "python3",
            "--no-progress-bar",
            "--log-output",
            "--no-request-save-on-cell-execute",
            "-y",
            json.dumps(self.parameters),
        ]

    def environment(self) -> dict[str, str]:
        """Kernels of this Python, this checkout's ``lib``, and a fair share of the cores."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        path = os.pathsep.join(filter(None, [str(self.project.root), os.environ.get("PYTHONPATH")]))
        # The kernels work in another folder than this process, and must find the same ones.
        named = {name: str(folders.named(os.environ[name]).absolute()) for name in ("BOOK_RUNS", "BOOK_DATA") if os.environ.get(name)}
        return threads | os.environ | named | {"PYTHONPATH": path, "JUPYTER_PREFER_ENV_PATH": "1", "BOOK_PROGRESS": str(self.events)}

    def follow(self, watcher: Watcher) -> None:
        for line in self.lines.new():
            if match := CELL_STARTED.search(line):
                watcher.cell(self.chapter, int(match[1]))
        for line in self.told.new():
            watcher.spec(self.chapter, json.loads(line))

    def end(self) -> Execution:
        seconds = time.monotonic() - self.begin
        made = self.read_made()
        failure = find_failure(made or notebooks.read(self.source), self.log) if self.process.returncode != 0 or made is None else None
        if made:
            notebooks.write(notebooks.finished(made, self.chapter, self.parameters, self.project.root), self.target)
        self.tidy()
        return Execution(self.chapter, seconds, self.log, self.rerun(), failure)

    def read_made(self) -> NotebookNode | None:
        """What papermill wrote; None where it wrote nothing, or was killed while it wrote."""
        try:
            return notebooks.read(self.made)
        except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):  # nbformat says so of other JSON
            return None

    def tidy(self) -> None:
        self.open_files.close()
        for path in (self.made, self.events):
            path.unlink(missing_ok=True)

    def rerun(self) -> str:
        """The command that executes this chapter alone, for people to type."""
        words = ["papermill", str(self.source.relative_to(self.project.root)), str(self.target.relative_to(self.project.root))]
        for name, value in self.parameters.items():
            words += ["-p", name, str(value)]
        return shlex.join(words)

    def stop(self) -> None:
        """End papermill as Ctrl-C would, so that its kernel ends too; then insist."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.tidy()


@dataclass
class Tail:
    """Whole lines that were added to a growing file since the last look."""

    file: TextIO
    rest: str = ""

    def new(self) -> list[str]:
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        return lines


def working(folder: Path) -> Path:
    """Where papermill writes while it executes, within the folder of a build."""
    return folder / "running"


def find_failure(notebook: NotebookNode, log: Path) -> Failure:
    """The cell with an error.  Without one (its kernel died, say) the last cell begun, and the log's last line.

    ``notebook`` is what papermill wrote, or the chapter itself where it could not write anything.
    """
    cells = notebooks.with_injected(notebook.cells)
    for index, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return Failure(*place(cells, index), f"{output.ename}: {output.evalue}")
    text = log.read_text(encoding="utf-8", errors="replace")
    begun = [int(number) - 1 for number in CELL_STARTED.findall(text)]
    last = [line for line in text.splitlines() if line.strip()] or ["papermill ended without a message"]
    return Failure(*(place(cells, begun[-1]) if begun else (None, "")), last[-1])


def place(cells: Sequence[NotebookNode], index: int) -> tuple[int, str]:
    """Number of a cell as the chapter's author counts them, without those papermill added, and its first line."""
    number = sum(1 for cell in cells[: index + 1] if not notebooks.ADDED & notebooks.tags(cell))
    code = [line for line in cells[index].source.splitlines() if line and not line.startswith("#")]
    return number, code[0] if code else ""
