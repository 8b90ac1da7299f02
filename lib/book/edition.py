"""The committed edition: chapters that were executed by replaying the best stored results."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from lib.book import notebooks
from lib.book.build import cannot_execute, chapter_parameters, execute_shown, report
from lib.book.front import social
from lib.book.front.headlines import write_headlines
from lib.book.manifest import specs_of, write_manifests
from lib.book.notebooks import Project
from lib.runs.scales import REFERENCE_SCALES, REPLAYS
from lib.runs.store import Store
from lib.studies import Chapter
from lib.system.whole_file import copied, replacing


def make_edition(
    jobs: int | None = None,
    only: Sequence[Chapter] = (),
    project: Project | None = None,
    store: Store | None = None,
    console: Console | None = None,
) -> int:
    """Refresh the committed chapters and results.

    First the results that the chapters' studies name at the reference scales are copied from the reader's
    own store to ``data/results``.  Then each chapter is executed at the best scale most of whose studies are
    stored (``gpu``, then ``cpu``; there it only replays, and a study that is planned but not run is shown as missing), else
    at ``laptop``, live, and written to ``chapters/``, and what they say of their results to the first page.
    Returns the exit status: 1 when a chapter stopped; its committed notebook stays as it was.
    """
    project, store, console = project or Project(), store or Store.default(), console or Console()
    chapters = list(only) or list(project.chapters)
    if problem := cannot_execute(project):
        print(problem, file=sys.stderr)
        return 1
    folder = project.build("edition")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return refreshed(project, store, chapters, folder, jobs, console)
    except Timeout:
        print(f"another edition is being made in {folder}", file=sys.stderr)
        return 1


def refreshed(project: Project, store: Store, chapters: Sequence[Chapter], folder: Path, jobs: int | None, console: Console) -> int:
    """Do what :func:`make_edition` says, in ``folder``; returns the exit status."""
    given = {}
    for chapter in chapters:
        promoted = promote(chapter, store)
        scale = best_scale(chapter, store, project.chapters)
        given |= chapter_parameters([chapter], scale, {})
        told = f", {len(promoted)} results to data/results" if promoted else ""
        console.print(f"{chapter.slug}: scale {scale}{told}", highlight=False)
    os.environ[REPLAYS] = "1"
    try:
        executions = execute_shown(project, chapters, given, folder, jobs, console)
    finally:
        del os.environ[REPLAYS]
    whole = [execution.chapter for execution in executions if not execution.failure]
    for chapter in whole:
        copied(folder / "chapters" / project.source(chapter).name, project.source(chapter))
    shown = write_headlines(project.root, project, REFERENCE_SCALES[-1], store, whole)
    with replacing(project.root / "assets" / "social.png", movable=None) as part:
        part.write_bytes(social.picture(shown))
    write_manifests(project.root / "data" / "editions", project.chapters, store)
    report(executions, console)
    return 0 if len(whole) == len(executions) else 1


def promote(chapter: Chapter, store: Store) -> list[Path]:
    """Copy the reader's own results at the reference scales to the committed store; returns what is new."""
    new = []
    for scale in REFERENCE_SCALES:
        for spec in specs_of(chapter, scale):
            own, reference = store.path(spec), store.reference_path(spec)
            if store.get_own(spec) and not (reference.exists() and reference.read_bytes() == own.read_bytes()):
                new.append(copied(own, reference))
    return new


def best_scale(chapter: Chapter, store: Store, others: Sequence[Chapter] = ()) -> str:
    """The first reference scale at which most studies are committed, each with half of its results or more; ``laptop`` when there is none.

    Study by study: one that was planned later takes nothing from a chapter whose other studies are there.  By halves: a study
    to which an arm or a seed is added is still there, and its page says what is missing.
    A chapter that summarises the ``others`` takes the least of their scales: results of the better ones are its
    reference edition anyway.
    """
    if chapter.summarises:
        found = {best_scale(other, store) for other in others if not other.summarises}
        return next((scale for scale in ("laptop", *reversed(REFERENCE_SCALES)) if scale in found), "laptop")
    for scale in REFERENCE_SCALES:
        studies = [specs for specs in chapter.module.studies(chapter.module.Parameters(scale=scale)).values() if specs]
        there = [specs for specs in studies if 2 * sum(bool(store.get_reference(spec)) for spec in specs) >= len(specs)]
        if 2 * len(there) > len(studies):
            return scale
    return "laptop"


def stale(project: Project) -> list[str]:
    """Committed chapters whose outputs were made by other code than they hold now."""
    found = []
    for chapter in project.chapters:
        notebook = notebooks.read(project.source(chapter))
        stamp = notebook.metadata.get("book")
        if stamp is None:
            found.append(f"{chapter.slug} is not stamped: `make edition` executes it")
        elif notebooks.is_stale(stamp, notebook, chapter):
            found.append(f"{chapter.slug} has changed since it was executed: `make edition` refreshes it")
    return found
