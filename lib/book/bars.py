"""What people see while chapters are executed: bars in a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lib.book.execute import Execution, Watcher
from lib.studies import Chapter


@contextmanager
def shown(console: Console) -> Iterator[Watcher]:
    """A watcher for :func:`lib.book.execute.execute` that draws bars where ``console`` is a terminal."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


def words(event: dict) -> str:
    """One line of :mod:`lib.runs.progress` whose end may be cut off: how far it is comes before what it is about."""
    return "  ".join(filter(None, [f"{event['done']}/{event['total']}", event["text"], event["spec"]]))


@dataclass
class Bars:
    """Two bars per chapter: its cells, and below it the result that is being computed."""

    progress: Progress
    chapters: dict[Chapter, TaskID] = field(default_factory=dict)
    specs: dict[Chapter, TaskID] = field(default_factory=dict)

    def started(self, chapter: Chapter, cells: int) -> None:
        self.chapters[chapter] = self.progress.add_task(chapter.slug, total=cells, text="")
        self.specs[chapter] = self.progress.add_task("", total=1.0, text="", visible=False)

    def cell(self, chapter: Chapter, cell: int) -> None:
        total = self.progress.tasks[self.chapters[chapter]].total
        self.progress.update(self.chapters[chapter], completed=cell - 1, text=f"cell {cell} of {total:g}")
        self.progress.update(self.specs[chapter], visible=False)

    def spec(self, chapter: Chapter, event: dict) -> None:
        self.progress.update(self.specs[chapter], completed=event["fraction"], visible=True, text=words(event)[:100])

    def ended(self, execution: Execution) -> None:
        self.progress.update(self.specs[execution.chapter], visible=False)
        task = self.progress.tasks[self.chapters[execution.chapter]]
        if execution.failure:
            self.progress.update(task.id, text="stopped")
        else:
            self.progress.update(task.id, completed=task.total, text="done")
        self.progress.stop_task(task.id)


@dataclass
class Lines:
    """A line per event that a log file should keep."""

    console: Console

    def say(self, chapter: Chapter, text: str) -> None:
        self.console.print(f"{chapter.slug}  {escape(text)}", highlight=False, soft_wrap=True)

    def started(self, chapter: Chapter, cells: int) -> None:
        self.say(chapter, "started")

    def cell(self, chapter: Chapter, cell: int) -> None:
        pass

    def spec(self, chapter: Chapter, event: dict) -> None:
        if event["fraction"] == 1.0 and event["text"].startswith("ran"):
            self.say(chapter, f"[{event['done']}/{event['total']}] {event['spec']}{event['text'].removeprefix('ran')}")

    def ended(self, execution: Execution) -> None:
        outcome = "stopped" if execution.failure else "executed"
        self.say(execution.chapter, f"{outcome} after {execution.seconds:.0f} s")
