"""The mosaic of the first page: one cell for each claim, a row for each chapter, as an SVG that needs no script.

A cell has its verdict's colour and mark, says the claim and both numbers when a pointer or the keyboard comes to it, and leads
to the claim in the ledger.  There are two drawings, for wide and for narrow screens; a style sheet shows one of them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib.book.ledger import NOT_RUN, Shown, by_chapter, judged, tally
from lib.claims.verdict import MARKS, css_class
from lib.studies import Chapter

#: Side of a cell and the gap to the next one, in pixels of the page.
CELL, GAP = 18, 3
STEP = CELL + GAP

#: Space between two chapters, and the height of a line that has a chapter's name.
BETWEEN, LINE = 6, 22


@dataclass(frozen=True)
class Layout:
    """``name`` of a style class, ``width`` in pixels, ``left``: where cells begin; at 0 a chapter's name stands above them."""

    name: str
    width: int
    left: int

    @property
    def columns(self) -> int:
        return (self.width - self.left + GAP) // STEP


LAYOUTS = (Layout("wide", 860, 209), Layout("narrow", 344, 0))

#: Stands where a cell's words do until one is pointed at.
HOW = "One cell is one claim. Point at a cell, or move to it with the Tab key, to read the claim, the paper’s number and ours here; click it to see how it was judged."


def mosaic(entries: Sequence[Shown], ledger: str) -> str:
    """Return the mosaic and its legend as a block of raw HTML for Pandoc; empty where there is no claim.

    ``ledger``  address of the page that has every claim
    """
    entries = judged(entries)
    if not entries:
        return ""
    counts = tally(entries)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    drawings = "\n".join(drawing(entries, ledger, layout, told) for layout in LAYOUTS)
    legend = "".join(
        f'<span><svg viewBox="0 0 {CELL} {CELL}" width="{CELL}" height="{CELL}" aria-hidden="true">{cell(verdict, 0, 0)}</svg>'
        f"{count} {verdict}</span>"
        for verdict, count in counts.items()
        if count
    )
    said = f'<p class="book-mosaic-said">{HOW}</p>'
    return f'`````{{=html}}\n<div class="book-mosaic">\n{drawings}\n<p class="book-mosaic-legend">{legend}</p>\n{said}\n</div>\n`````\n'


def drawing(entries: Sequence[Shown], ledger: str, layout: Layout, told: str) -> str:
    parts, top = [], 0
    for chapter, own in by_chapter(entries).items():
        parts.append(chapter_name(chapter, layout, top))
        if not layout.left:
            top += LINE
        for index, entry in enumerate(own):
            row, column = divmod(index, layout.columns)
            parts.append(linked(entry, ledger, layout.left + column * STEP, top + row * STEP))
        top += -(-len(own) // layout.columns) * STEP + BETWEEN
    height = top - BETWEEN - GAP
    return (
        f'<svg class="{layout.name}" viewBox="0 0 {layout.width} {height}" width="{layout.width}" height="{height}" role="group" '
        f'aria-label="{len(entries)} claims by chapter and verdict: {told}">\n' + "\n".join(parts) + "\n</svg>"
    )


def chapter_name(chapter: Chapter, layout: Layout, top: int) -> str:
    return (
        f'<a href="chapters/{chapter.slug}.html"><text class="chapter" x="0" y="{top + 15}">{chapter.number}  '
        f"{html.escape(shortened(chapter.title))}</text></a>"
    )


def shortened(title: str, most: int = 32) -> str:
    """Return the title as far as it fits, cut at a word."""
    if len(title) <= most:
        return title
    return title[:most].rsplit(" ", 1)[0].rstrip(",") + " …"


def linked(entry: Shown, ledger: str, x: int, y: int) -> str:
    """Return a claim's cell, which says in words what it shows and leads to the ledger."""
    words = html.escape(described(entry))
    return f'<a href="{ledger}#claim-{html.escape(entry.claim.id)}"><title>{words}</title>{cell(verdict_of(entry), x, y)}</a>'


def described(entry: Shown) -> str:
    """``"weaker: the claim. The paper: its figure. Here: the value."``"""
    best = entry.best
    here = f" Here: {best.measured}." if best and best.estimate else ""
    return html.unescape(f"{verdict_of(entry).capitalize()}: {entry.claim.claim} The paper: {entry.claim.figure}.{here}")


def cell(verdict: str, x: int, y: int) -> str:
    """Return the square of a verdict: filled where it decides, and its mark, so that it can be read without colours."""
    mark = MARKS.get(verdict, "")
    return (
        f'<rect class="{css_class(verdict)}" x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3"/>'
        f'<text class="mark" x="{x + CELL / 2:g}" y="{y + CELL / 2 + 4:g}" aria-hidden="true">{mark}</text>'
    )


def verdict_of(entry: Shown) -> str:
    return entry.best.verdict if entry.best else NOT_RUN


def ledger_address(chapters: Iterable[Chapter]) -> str:
    """Return the page of the chapter that summarises the others; "" where there is none."""
    return next((f"chapters/{chapter.slug}.html" for chapter in chapters if chapter.summarises), "")
