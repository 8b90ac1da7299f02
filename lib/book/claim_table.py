"""The table of a chapter's claims: what the paper says, what was measured, and the verdict as a chip that leads to the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lib.claims.judge import Verdict
from lib.claims.verdict import css_class
from lib.runs.markdown import escaped, pipe_table
from lib.studies import CHAPTERS

#: Where each claim stands beside all others.
LEDGER = next(f"{chapter.slug}.ipynb" for chapter in CHAPTERS if chapter.summarises)


def claim_table(rows: Sequence[tuple[str, str, str, str | None]], places: str) -> str:
    """Return claims as a table; a column for this run only where some of its results are not the reference edition's."""
    if all(own is None for *_, own in rows):
        header, widths = ("Claim", "The paper", "What we measured"), (34, 24, 42)
        cells = [row[:3] for row in rows]
    else:
        header = ("Claim", "The paper", f"Reference edition{f' ({places})' if places else ''}", "This run")
        widths = (30, 20, 25, 25)
        cells = [(*row[:3], row[3] or "the same") for row in rows]
    return pipe_table(header, [[escaped(cell) for cell in row] for row in cells], widths=widths)


def told(verdict: Verdict) -> str:
    """Return a verdict for a table's cell: a chip that leads to the ledger, the value, and why in a sentence."""
    value = verdict.measured if verdict.estimate and verdict.verdict != "not testable" else ""
    return "<br>".join(filter(None, (f"{chip(verdict)} {value}".strip(), f"<small>{first_sentence(verdict.text)}</small>")))


def chip(verdict: Verdict) -> str:
    """Return a verdict's mark and word as a link to the ledger, in its colour on the page."""
    return f'<span class="verdict {css_class(verdict.verdict)}">[{verdict.marked}]({LEDGER}#claim-{verdict.claim.id})</span>'


def first_sentence(text: str) -> str:
    """Return the beginning of a reason up to its first full stop that ends a sentence."""
    return re.split(r"(?<=[.:])\s+(?=[A-Z])", text, maxsplit=1)[0]
