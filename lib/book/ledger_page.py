"""The ledger and the papers as Markdown, for the last chapter."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from lib import ROOT
from lib.book.ledger import NOT_RUN, Entry
from lib.claims.entries import Paper, paper_of
from lib.claims.judge import Verdict
from lib.runs.markdown import details, escaped, pipe_table
from lib.system.checks import require

ARXIV, DOI = "https://arxiv.org/abs/", "https://doi.org/"


def ledger(entries: Sequence[Entry]) -> str:
    """All claims as one table.  In the rendered book a script makes it sortable and offers it as CSV and JSON.

    Raises ValueError where there is none.
    """
    require(entries, "there is no claim to show")
    rows = [[escaped(cell) for cell in row_of(entry)] for entry in entries]
    header, widths = ("Verdict", "Claim", "The paper", "Reference edition", "This run"), (14, 34, 24, 16, 14)
    if {row[-1] for row in rows} <= {"the same", "–"}:  # a column that says nothing
        rows, header, widths = [row[:-1] for row in rows], header[:-1], (14, 38, 28, 20)
    table = pipe_table(header, rows, widths=widths)
    # What the table does not show in full: the script joins both when a reader takes them along.
    numbers = [packed(entry) for entry in entries]
    data = json.dumps({"columns": list(numbers[0]), "rows": [list(row.values()) for row in numbers]}, ensure_ascii=False)
    return (
        '<div class="book-ledger">\n\n'
        + table
        + '\n\n<script type="application/json" class="book-ledger-data">'
        + data.replace("</", "<\\/")
        + "</script>\n\n</div>"
    )  # a closing tag in a text would end the script early


def packed(entry: Entry) -> dict[str, Any]:
    """What a row unfolds to: the numbers, what is measured and what decides, and how the values are read."""
    claim = entry.claim
    return {
        "claim": claim.id,
        "chapter": entry.chapter.number,
        "chapter_title": entry.chapter.title,
        "paper": claim.paper,
        "paper_title": paper_of(claim).title,
        **entry.numbers(),
        "metric": " ".join(claim.metric.split()),
        "rule": claim.rule,
        "studies": ", ".join(claim.study),
        "subject": claim.subject,
        "values": str(claim.values),
        "code": claim.values.code(claim.subject),
    }


def row_of(entry: Entry) -> list[str]:
    claim = entry.claim
    where = f" (@{entry.section})" if entry.section else ""
    return [
        f"[]{{#claim-{claim.id}}}{marked(entry.best)}",
        f"{claim.claim} [@{claim.paper}]{where}",
        f"{claim.figure} ({claim.where})",
        measured(entry.edition),
        own(entry),
    ]


def marked(verdict: Verdict | None) -> str:
    return verdict.marked if verdict else NOT_RUN


def measured(verdict: Verdict | None) -> str:
    """The value, or why there is none; a dash where nothing is stored."""
    return "–" if verdict is None else verdict.shown


def own(entry: Entry) -> str:
    if entry.edition and entry.own and entry.edition == entry.own:
        return "the same"
    if entry.own is None:
        return "–"
    return f"{entry.own.marked}, {measured(entry.own)}" if entry.own.decided else measured(entry.own)


def paper_section(paper: Paper, entries: Iterable[Entry]) -> str:
    """One paper: what it says in our words, what of it is implemented and where, its claims, what is said wrongly."""
    parts = [
        f"{listed(paper.reference.authors)}. *{paper.title}*. {paper.reference.venue}, {paper.year}. {links(paper)} [@{paper.key}]",
        paper.summary,
    ]
    if paper.sections:
        parts.append("**Treated in** " + ", ".join(f"@{section}" for section in paper.sections) + ".")
    if paper.implements:
        parts.append("**Implemented as** " + ", ".join(implemented(name) for name in paper.implements) + ".")
    judged = [
        f"- {marked(entry.best)}: [{entry.claim.claim}](#claim-{entry.claim.id}) {measured(entry.best)}"
        for entry in entries
        if entry.claim.paper == paper.key
    ]
    if judged:
        parts.append("**Claims**\n\n" + "\n".join(judged))
    if paper.corrections:
        parts.append("**Often told otherwise**\n\n" + "\n".join(f"- {correction}" for correction in paper.corrections))
    return details(f"{paper.title} ({paper.year}){tallied(paper, entries)}", "\n\n".join(parts))


def tallied(paper: Paper, entries: Iterable[Entry]) -> str:
    """The marks of its claims, so that a folded entry tells how the paper fared."""
    marks = [entry.best.marked.partition(" ")[0] if entry.best else "·" for entry in entries if entry.claim.paper == paper.key]
    return f' <span class="book-marks">{" ".join(marks)}</span>' if marks else ""


def links(paper: Paper) -> str:
    about = paper.reference
    found = [
        f"[arXiv {about.arxiv}]({ARXIV}{about.arxiv})" if about.arxiv else "",
        f"[doi]({DOI}{about.doi})" if about.doi else "",
        f"[code]({paper.code})" if paper.code else "",
    ]
    return ", ".join(link for link in found if link)


def implemented(name: str) -> str:
    """A dotted name of ``lib`` with a link to its file.  Raises ValueError for a name that is not there."""
    try:
        item, module = resolve_name(name), name
        while not isinstance(resolve_name(module), ModuleType):
            module = module.rpartition(".")[0]
    except (AttributeError, ImportError) as error:
        raise ValueError(f"{name}, which data/papers.yml names, is not there: {error}") from error
    # A function may be defined elsewhere than where it is named; a constant cannot tell.
    home = sys.modules.get(getattr(item, "__module__", None) or module) or sys.modules[module]
    home = home if home.__name__.startswith("lib") else sys.modules[module]
    path = Path(home.__file__).resolve().relative_to(ROOT).as_posix()
    return f"[`{name.removeprefix('lib.')}`](../{path})"


def listed(authors: Sequence[str], most: int = 3) -> str:
    return ", ".join(authors) if len(authors) <= most else f"{authors[0]} et al."
