"""What came out, for the first page: three findings in short, the mosaic of claims, and each chapter's finding in a table."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.book.front.mosaic import ledger_address, mosaic
from lib.book.ledger import Shown, by_chapter, of_chapter, tally
from lib.book.notebooks import Project
from lib.book.notes import FINDING, typeset
from lib.claims.entries import Claim, claims
from lib.claims.verdict import MARKS
from lib.runs.markdown import pipe_table
from lib.runs.store import Store
from lib.studies import Chapter
from lib.system.whole_file import write_text

TITLE = re.compile(r"# (.+?)(?: \{.*)?$", re.MULTILINE)

#: How many seeds a number has, which the page says once.
SEEDS = re.compile(r" \(n=\d+\)")

#: Where the ledger's page holds its numbers.
PACKED = re.compile(r'<script type="application/json" class="book-ledger-data">(.*?)</script>', re.DOTALL)

#: Files that the first page includes.
SHORT, MOSAIC, TABLE = "_findings.md", "_mosaic.md", "_headlines.md"

#: Findings that stand at the top, and what is said of their choice.
FIRST, SHORT_OF = 3, "From the chapters whose runs decide the most claims:"

#: Where the first statement of a finding ends; a point inside a number is none.
ENDS = re.compile(r"[.;](?=\s|$)")

#: Verdicts that decide.
DECIDED = ("reproduced", "weaker", "not seen")


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


def table(root: Path, entries: Sequence[Shown]) -> str:
    """Return a row for each finding: the chapter, what it found, and how its claims came out."""
    verdicts = {f"chapters/{chapter.slug}.ipynb": dots(tally(own)) for chapter, own in by_chapter(entries).items()}
    rows = [(f"[{title}]({name})", plain(told), verdicts.get(name, "")) for name, (title, told) in findings(root).items()]
    return pipe_table(("Chapter", "What we found", "Claims"), rows, widths=(22, 58, 20)) + "\n" if rows else "\n"


def in_short(root: Path, entries: Sequence[Shown]) -> str:
    """Return a list of the first statements of three findings, each with a link: those of the chapters with the most decided claims.

    Of chapters with as many decided claims the earlier one comes first; chapters that decide none are left out.
    """
    told = findings(root)
    counts = {
        name: sum(tally(own)[verdict] for verdict in DECIDED)
        for chapter, own in by_chapter(entries).items()
        if (name := f"chapters/{chapter.slug}.ipynb") in told
    }
    first = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])[:FIRST]
    lines = [f"- {statement(told[name][1])} [{told[name][0]}]({name})" for name in first]
    return "\n".join([f"::: {{.book-first}}\n{SHORT_OF}\n", *lines, ":::"]) + "\n" if lines else "\n"


def statement(finding: str) -> str:
    """Return the first statement of a finding: what stands before its first semicolon or at its first full stop."""
    return ENDS.split(plain(finding), maxsplit=1)[0].rstrip() + "."


def plain(finding: str) -> str:
    """Return a finding in one line without its numbers of seeds, with numbers that no line end parts from their units."""
    return typeset(SEEDS.sub("", " ".join(finding.split())))


def dots(counts: Mapping[str, int]) -> str:
    """``"● 4 ◐ 1 ? 12"``: how many claims have each verdict; those that cannot be tested are not counted."""
    return " ".join(
        f"{MARKS[verdict]}\N{NO-BREAK SPACE}{count}"
        for verdict, count in counts.items()
        if count and verdict in MARKS and verdict != "not testable"
    )


def markdown(output: dict) -> str:
    return "".join(output.get("data", {}).get("text/markdown", "")).strip()


def write_headlines(
    root: Path, project: Project, scale: str, store: Store | None = None, executed: Collection[Chapter] = ()
) -> Sequence[Shown]:
    """Write what the first page includes, and return the claims that it shows.  Files that would not change are left alone: nothing is rendered anew then.

    ``executed``  chapters of ``root`` that were executed just now; where the ledger is among them, its verdicts are taken over

    They have to be there before Quarto starts, which looks at includes before it runs any script of the project.
    """
    shown: Sequence[Shown] | None = None
    for chapter in executed:
        if chapter.summarises:
            shown = recalled(root / "chapters" / f"{chapter.slug}.ipynb", scale, project.chapters)
    if shown is None:
        shown = [entry for chapter in project.chapters for entry in of_chapter(chapter, scale, store or Store.default(), project)]
    write_text(mosaic(shown, ledger_address(project.chapters)) or "\n", root / MOSAIC)
    write_text(in_short(root, shown), root / SHORT)
    write_text(table(root, shown), root / TABLE)
    return shown


@dataclass(frozen=True)
class Told:
    """A verdict in the words of the ledger's page; ``measured`` is empty where nothing was."""

    verdict: str
    measured: str

    @property
    def estimate(self) -> bool:
        return bool(self.measured)


@dataclass(frozen=True)
class Recalled:
    """A claim as the ledger's page shows it."""

    claim: Claim
    chapter: Chapter
    best: Told | None


def recalled(notebook: Path, scale: str, chapters: Sequence[Chapter]) -> list[Recalled] | None:
    """Return the claims of an executed ledger; None where it shows none, was executed at another scale, or knows other claims."""
    content = json.loads(notebook.read_text(encoding="utf-8")) if notebook.exists() else {"cells": [], "metadata": {}}
    if content["metadata"].get("book", {}).get("scale") != scale:
        return None
    outputs = (markdown(output) for cell in content["cells"] for output in cell.get("outputs", ()))
    packed = next((match[1] for output in outputs if (match := PACKED.search(output))), None)
    if packed is None:
        return None
    table, number = json.loads(packed), {chapter.number: chapter for chapter in chapters}
    rows = [dict(zip(table["columns"], row)) for row in table["rows"]]
    if [row["claim"] for row in rows] != [
        claim.id for chapter in chapters for claim in claims().values() if claim.subject == chapter.subject
    ]:
        return None
    return [Recalled(claims()[row["claim"]], number[row["chapter"]], told(row)) for row in rows]


def told(row: Mapping[str, Any]) -> Told | None:
    """The edition's verdict where there is one, else the reader's own, as :attr:`lib.book.ledger.Entry.best`."""
    for who in ("edition", "own"):
        if row[f"{who}_verdict"]:
            return Told(row[f"{who}_verdict"], row[f"{who}_measured"] or "")
    return None
