"""Turn executed chapters into pages: by Quarto, or as a plain preview where there is no Quarto."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lib.book import notebooks, preview
from lib.book.front.headlines import write_headlines
from lib.book.notebooks import Project
from lib.book.postrender import unresolved
from lib.studies import Chapter

QUARTO_NEEDED = (1, 7)


@dataclass(frozen=True)
class Rendering:
    """How it went: ``index`` is the page to open, None when nothing was rendered."""

    index: Path | None
    problems: list[str]
    plain: bool = False


def find_quarto() -> tuple[str | None, str]:
    """The Quarto to use, or None and in one line why there is none.

    Looked for in ``QUARTO_PATH`` (the program or its folder), on ``PATH``, and beside this Python.
    """
    named = os.environ.get("QUARTO_PATH")
    beside = str(Path(sys.executable).parent)
    found = None
    if named:
        found = shutil.which(named) or shutil.which("quarto", path=named)
    found = found or shutil.which("quarto") or shutil.which("quarto", path=beside)
    if found is None:
        return None, "Quarto was not found (https://quarto.org; QUARTO_PATH may name it)"
    answer = subprocess.run([found, "--version"], capture_output=True, text=True)
    version = re.match(r"(\d+)\.(\d+)", answer.stdout.strip())
    if answer.returncode != 0 or not version:
        return None, f"{found} does not start: {(answer.stderr or answer.stdout).strip().splitlines()[-1:]}"
    if tuple(map(int, version.groups())) < QUARTO_NEEDED:
        return None, f"{found} is Quarto {answer.stdout.strip()}, and {'.'.join(map(str, QUARTO_NEEDED))} is needed"
    return found, ""


def render(project: Project, folder: Path, scale: str = "laptop", executed: Collection[Chapter] = ()) -> Rendering:
    """Render the chapters in ``folder/chapters`` (committed ones where it lacks any) to ``project.book``.

    ``executed``  those that were executed just now, to their end

    The pages are made in ``folder`` and replace the previous book only when they are complete.
    """
    with FileLock(folder.parent / ".publish.lock"):
        recover(project.book)
    stage(project, folder)
    write_headlines(folder, project, scale, executed=executed)
    executed = {c.slug: notebooks.read(folder / "chapters" / f"{c.slug}.ipynb") for c in project.chapters}
    problems = notebooks.repeated_labels(executed)
    quarto, why = find_quarto()
    if quarto is None:
        print(f"{why}: the book is rendered as a plain preview", flush=True)
        made = preview.render(project, folder)
        return Rendering(publish(made, project.book), problems, plain=True)

    made = folder / "_book"
    shutil.rmtree(made, ignore_errors=True)
    log = folder / "logs" / "quarto.log"
    status = run_quarto(quarto, folder, log)
    if made.exists():
        problems += [f"{problem} leads nowhere" for problem in unresolved(made)]
    if not (made / "index.html").exists() or (status != 0 and not problems):
        last = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()][-5:]
        return Rendering(
            None, [*problems, f"Quarto stopped; the previous book is kept. Its last words ({log.relative_to(project.root)}):", *last]
        )
    return Rendering(publish(made, project.book), problems)


def run_quarto(quarto: str, folder: Path, log: Path) -> int:
    """``quarto render`` with this Python for its scripts; everything it says goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"QUARTO_PYTHON": sys.executable, "NO_COLOR": "1"}
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.run(
            [quarto, "render", str(folder)], env=environment, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        ).returncode


def stage(project: Project, folder: Path) -> None:
    """Make ``folder`` a book of its own: settings, assets and sources beside the executed chapters.

    A chapter that was not executed, or whose code has changed since, is shown as it is committed.
    """
    for pattern in ("_quarto.yml", "_variables.yml", "*.qmd", "*.bib"):
        for path in project.root.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for name in ("assets", "lib"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(project.root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for chapter in project.chapters:
        committed, executed = project.source(chapter), folder / "chapters" / f"{chapter.slug}.ipynb"
        if not executed.exists() or is_outdated(executed, committed, chapter):
            executed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(committed, executed)


def is_outdated(executed: Path, committed: Path, chapter: Chapter) -> bool:
    return notebooks.is_stale(notebooks.read(executed).metadata.get("book", {}), notebooks.read(committed), chapter)


def publish(made: Path, book: Path) -> Path:
    """Put the folder ``made`` in the place of ``book``; returns the page to open.

    Two builds at different scales take turns, and one that is killed here leaves the book or what :func:`recover` finds.
    """
    with FileLock(made.parent.parent / ".publish.lock"):
        recover(book)
        old = aside(book)
        if book.exists():
            book.rename(old)
        made.rename(book)
        shutil.rmtree(old, ignore_errors=True)
    return book / "index.html"


def recover(book: Path) -> None:
    """Put the previous book back where a build was killed between taking it away and bringing the new one."""
    if book.exists():
        shutil.rmtree(aside(book), ignore_errors=True)
    elif aside(book).exists():
        aside(book).rename(book)


def aside(book: Path) -> Path:
    return book.with_name(f"{book.name}.old")
