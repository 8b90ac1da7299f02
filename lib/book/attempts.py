"""What was tried and did not work: ``data/attempts.yml``, a dated log for the last chapter."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib import ROOT
from lib.book.ledger import Entry
from lib.claims.entries import claims
from lib.claims.entry_files import records
from lib.runs.markdown import details
from lib.studies import Chapter, chapter
from lib.system.checks import did_you_mean, require

#: A claim's value, where a text says {its-id}.
VALUE = re.compile(r"\{([a-z0-9-]+)\}")


@dataclass(frozen=True)
class Attempt:
    """One entry; ``found`` may name claims in braces, for whose values it stands."""

    date: datetime.date
    chapter: Chapter
    tried: str
    found: str


def read_attempts(path: Path = ROOT / "data" / "attempts.yml") -> list[Attempt]:
    """The log.  Raises ValueError, saying what to mend, for a chapter, claim, date or field that there is not."""
    found = []
    for record in records(path):
        require(
            set(record) == {"date", "subject", "tried", "found"},
            f"{path.name}: an entry has date, subject, tried and found, not {', '.join(sorted(record))}",
        )
        require(isinstance(record["date"], datetime.date), f"{path.name}: {record['date']!r} is not a date, write 2026-11-22")
        for name in VALUE.findall(record["found"]):
            require(name in claims(), f"{path.name}: no claim is called {name!r}.{did_you_mean(name, claims())}")
        found.append(Attempt(record["date"], chapter(record["subject"]), record["tried"].strip(), record["found"].strip()))
    return found


def told(entry: Entry | None) -> str:
    """What was measured, whether it decides anything or not."""
    return entry.best.measured if entry and entry.best and entry.best.estimate else "not measured yet"


def log(attempts: Sequence[Attempt], entries: Sequence[Entry]) -> str:
    """The entries as Markdown, each folded behind what was tried, with the values that its claims have now."""
    by_id = {entry.claim.id: entry for entry in entries}

    def value(match: re.Match) -> str:
        entry = by_id.get(match[1])
        return f"[{told(entry)}](#claim-{match[1]})"

    return "\n\n".join(
        details(f"{attempt.date}, chapter {attempt.chapter.number}: {attempt.tried}", VALUE.sub(value, attempt.found))
        for attempt in attempts
    )
