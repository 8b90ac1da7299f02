"""What came out, for the first page: the mosaic of claims, and each chapter's finding in a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.book.filters import FINDING
from lib.book.ledger import Entry, by_chapter, of_chapter, tally
from lib.book.mosaic import ledger_address, mosaic
from lib.book.notebooks import Project
from lib.claims.verdict import MARKS
from lib.runs.markdown import pipe_table
from lib.runs.store import Store

TITLE = re.compile(r"# (.+?)(?: \{.*)?$", re.MULTILINE)

#: How many seeds a number has, which the page says once.
SEEDS = re.compile(r" \(n=\d+\)")

#: Files that the first page includes.
MOSAIC, TABLE = "_mosaic.md", "_headlines.md"


def findings(root: Path) -> dict[str, tuple[str, str]]:
    """Return title and finding of each chapter that is executed and has one, by its path, in the book's order."""
    found = {}
    for name in re.findall(r"chapters/\S+\.ipynb", (root / "_quarto.yml").read_text(encoding="utf-8")):
        cells = json.loads((root / name).read_text(encoding="utf-8"))["cells"] if (root / name).exists() else []
        sources = ["".join(cell["source"]) for cell in cells]
        shown = [markdown(output) for cell in cells for output in cell.get("outputs", ())]
        if told := next((text.removeprefix(FINDING) for text in shown if text.startswith(FINDING)), None):
            found[name] = next((match[1] for source in sources if (match := TITLE.match(source))), name), told
    return found


def table(root: Path, entries: Sequence[Entry]) -> str:
    """Return a row for each finding: the chapter, what it found, and how its claims came out."""
    verdicts = {f"chapters/{chapter.slug}.ipynb": dots(tally(own)) for chapter, own in by_chapter(entries).items()}
    rows = [
        (f"[{title}]({name})", SEEDS.sub("", " ".join(told.split())), verdicts.get(name, ""))
        for name, (title, told) in findings(root).items()
    ]
    return pipe_table(("Chapter", "What we found", "Claims"), rows, widths=(22, 58, 20)) + "\n" if rows else "\n"


def dots(counts: Mapping[str, int]) -> str:
    """``"● 4 ◐ 1 ? 12"``: how many claims have each verdict; those that cannot be tested are not counted."""
    return " ".join(
        f"{MARKS[verdict]}\N{NO-BREAK SPACE}{count}"
        for verdict, count in counts.items()
        if count and verdict in MARKS and verdict != "not testable"
    )


def markdown(output: dict) -> str:
    return "".join(output.get("data", {}).get("text/markdown", "")).strip()


def write_headlines(root: Path, project: Project, scale: str, store: Store | None = None) -> list[Entry]:
    """Write what the first page includes, and return the claims that it shows.  Files that would not change are left alone: nothing is rendered anew then.

    They have to be there before Quarto starts, which looks at includes before it runs any script of the project.
    """
    entries = [entry for chapter in project.chapters for entry in of_chapter(chapter, scale, store or Store.default(), project)]
    for name, text in ((MOSAIC, mosaic(entries, ledger_address(project.chapters)) or "\n"), (TABLE, table(root, entries))):
        target = root / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    return entries
