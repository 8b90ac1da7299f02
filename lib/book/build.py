"""Make the book: execute its chapters live, render them; or refresh the edition that is committed."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from lib.book import bars
from lib.book.execute import Execution, execute
from lib.book.notebooks import Project
from lib.book.render import render
from lib.runs.scales import check_scale
from lib.studies import Chapter
from lib.studies.base.parameters import checked
from lib.system.device import cores


def build(
    scale: str = "laptop",
    jobs: int | None = None,
    parameters: dict[str, Any] | None = None,
    only: Sequence[Chapter] = (),
    project: Project | None = None,
    console: Console | None = None,
) -> int:
    """Execute the chapters (``only`` some of them) at ``scale`` and render the whole book.

    jobs: chapters executed at a time; by default as many as there are cores, one at scale ``gpu``.
    parameters: further parameters, each given to the chapters that have it.
    Returns the exit status: 0, or 1 when a chapter stopped or a reference leads nowhere; the pages are
    written even so.  Raises ValueError or TypeError for a parameter no chapter takes or a wrong value.
    """
    project, console = project or Project(), console or Console()
    chapters = list(only) or list(project.chapters)
    given = chapter_parameters(chapters, scale, parameters or {})
    if problem := cannot_execute(project):
        print(problem, file=sys.stderr)
        return 1
    folder = project.build(scale)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    try:
        with FileLock(folder / ".lock", timeout=0):
            executions = execute_shown(project, chapters, given, folder, jobs, console)
            report(executions, console)
            rendering = render(project, folder, scale, [execution.chapter for execution in executions if not execution.failure])
    except Timeout:
        print(f"another build at scale {scale} is under way in {folder}", file=sys.stderr)
        return 1
    for problem in rendering.problems:
        console.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if rendering.index:
        console.print(
            f"\n{'preview' if rendering.plain else 'book'}: {rendering.index}   ({time.monotonic() - begin:.0f} s in all)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    failed = any(execution.failure for execution in executions)
    return 1 if failed or rendering.problems or rendering.index is None else 0


def chapter_parameters(chapters: Sequence[Chapter], scale: str, parameters: dict[str, Any]) -> dict[Chapter, dict]:
    """What each chapter is given: the scale, and those of ``parameters`` that it has.  All are checked here."""
    check_scale(scale)
    given: dict[Chapter, dict[str, Any]] = {}
    for chapter in chapters:
        fields = chapter.module.Parameters.__dataclass_fields__
        given[chapter] = {"scale": scale} | {name: value for name, value in parameters.items() if name in fields}
        checked(chapter.module.Parameters, given[chapter])
    for name in parameters:
        if not any(name in values for values in given.values()):
            checked(chapters[0].module.Parameters, {"scale": scale, name: parameters[name]})  # its message helps
    return given


def cannot_execute(project: Project) -> str | None:
    """What is missing to execute chapters at all, and how to get it."""
    missing = [name for name in ("papermill", "ipykernel", "nbconvert") if importlib.util.find_spec(name) is None]
    if missing:
        return f"executing the chapters needs {', '.join(missing)}: pip install -e '.[book]'"
    lost = [str(project.source(c)) for c in project.chapters if not project.source(c).exists()]
    return f"no such notebook: {', '.join(lost)}" if lost else None


def execute_shown(
    project: Project, chapters: Sequence[Chapter], given: dict[Chapter, dict], folder: Path, jobs: int | None, console: Console
) -> list[Execution]:
    """Execute while showing progress.  On an accelerator one chapter at a time, so that timings stay true."""
    accelerated = any(values["scale"] == "gpu" for values in given.values())
    jobs = jobs or (1 if accelerated else min(cores(), len(chapters)))
    try:
        with bars.shown(console) as watcher:
            return execute(project, chapters, given, folder, jobs, watcher)
    except KeyboardInterrupt:
        print("\nstopped; finished results are stored, the same command carries on", file=sys.stderr)
        raise


def report(executions: Sequence[Execution], console: Console) -> None:
    """How long each chapter took; for those that stopped, where, why and what to type."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    say("")
    width = max(len(execution.chapter.slug) for execution in executions)
    for execution in executions:
        outcome = "  STOPPED" if execution.failure else ""
        say(f"  {execution.chapter.slug:{width}}  {execution.seconds:7.1f} s{outcome}")
    for execution in executions:
        if failure := execution.failure:
            where = f"cell {failure.cell} ({failure.code})" if failure.cell else "outside its cells"
            say(f"\n{execution.chapter.slug} stopped at {where}\n  {failure.error}", style="red")
            say(f"  rerun it alone: {execution.rerun}\n  its log:        {execution.log}")
