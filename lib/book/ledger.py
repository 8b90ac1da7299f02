"""The ledger: every claim of the book with its verdict, in the reference edition and in the reader's own results.

Nothing is run.  What the chapters stored is read and judged again, so the ledger cannot say anything else than they do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lib.book import notebooks
from lib.book.notebooks import Project
from lib.claims.entries import Claim, claims, paper_of
from lib.claims.judge import IDENTITY, Verdict, judge
from lib.claims.origin import short
from lib.claims.verdict import MARKS
from lib.runs.replay import Edition, stored
from lib.runs.results import Results, significant
from lib.runs.store import Store
from lib.studies import CHAPTERS, Chapter

#: In place of a verdict, where nothing that the claim reads is stored.
NOT_RUN = "not run"


class Outcome(Protocol):
    """What became of a claim: a :class:`lib.claims.judge.Verdict`, or what a page says of one."""

    @property
    def verdict(self) -> str: ...
    @property
    def measured(self) -> str: ...
    @property
    def estimate(self) -> object: ...


class Shown(Protocol):
    """A claim with its outcome: an :class:`Entry`, or what a page shows of one."""

    @property
    def claim(self) -> Claim: ...
    @property
    def chapter(self) -> Chapter: ...
    @property
    def best(self) -> Outcome | None: ...


S = TypeVar("S", bound=Shown)


@dataclass(frozen=True)
class Entry:
    """One claim.  ``edition`` and ``own`` are None where nothing is stored that it reads.

    ``section``  label of the section whose claim table shows it, None when none does
    ``devices``  of the edition's results
    """

    claim: Claim
    chapter: Chapter
    section: str | None
    edition: Verdict | None
    own: Verdict | None
    devices: str

    @property
    def best(self) -> Verdict | None:
        """The edition's verdict where there is one, else the reader's own."""
        return self.edition or self.own

    def row(self) -> dict[str, Any]:
        """What is exported: one flat record."""
        paper = paper_of(self.claim)
        return {
            "claim": self.claim.id,
            "chapter": self.chapter.number,
            "section": self.section,
            "text": self.claim.claim,
            "paper": paper.key,
            "title": paper.title,
            "year": paper.year,
            "paper_figure": self.claim.figure,
            "where": self.claim.where,
            **self.numbers(),
        }

    def numbers(self) -> dict[str, Any]:
        """The part of :meth:`row` that was measured, and what decides."""
        return {
            "unit": self.claim.unit,
            "criterion": self.claim.criterion.spelled(self.claim.unit),
            **columns("edition", self.edition),
            "distance": significant(distance(self.best)),
            "edition_devices": self.devices,
            **columns("own", self.own),
        }


def distance(verdict: Verdict | None) -> float | None:
    """How far the mean lies beyond the criterion, in half-widths of the interval: beyond ±1 the interval is all on one side.

    Negative where the criterion is missed; None without an interval of some width.
    """
    estimate = verdict and verdict.decided
    if not estimate or not estimate.half_width:
        return None
    criterion = verdict.claim.criterion
    ahead = estimate.mean - criterion.value if criterion.at_least is not None else criterion.value - estimate.mean
    return ahead / estimate.half_width


def columns(prefix: str, verdict: Verdict | None) -> dict[str, Any]:
    """What a verdict says, with its numbers in the claim's unit: 1.5 where the unit is points, not 0.015."""
    factor = verdict and (100 if verdict.claim.unit in ("points", "percent") else 1)
    found = verdict and {
        "verdict": verdict.verdict,
        "n": verdict.n,
        **{name: None if (value := getattr(verdict, name)) is None else value * factor for name in ("mean", "low", "high")},
        "measured": verdict.measured if verdict.estimate else None,
        "why": verdict.text,
    }
    return {
        f"{prefix}_{name}": significant(found[name]) if found else None
        for name in ("verdict", "n", "mean", "low", "high", "measured", "why")
    }


def entries(scale: str, store: Store | None = None, project: Project | None = None) -> list[Entry]:
    """All claims, judged by the committed results and by what is stored at ``scale``, in the order of the chapters."""
    store, project = store or Store.default(), project or Project()
    return [entry for chapter in CHAPTERS for entry in of_chapter(chapter, scale, store, project)]


def of_chapter(chapter: Chapter, scale: str, store: Store, project: Project) -> list[Entry]:
    found = [claim for claim in claims().values() if claim.subject == chapter.subject]
    if not found:
        return []
    sections = claim_sections(chapter, project)
    committed = Edition(chapter.module, store)
    specs = chapter.module.studies(chapter.module.Parameters(scale=scale))
    wanted = dict.fromkeys(study for claim in found for study in claim.study if study in specs)
    here = {study: stored(specs[study], store) for study in wanted}
    edition = {claim: committed.results(claim.study) for claim in found}
    waiting = any(len(results) for studies in edition.values() for results in studies.values())
    return [
        entry_of(
            claim,
            chapter,
            sections.get(claim.id),
            edition[claim],
            {study: here.get(study, Results((), ())) for study in claim.study},
            waiting,
        )
        for claim in found
    ]


def entry_of(
    claim: Claim, chapter: Chapter, section: str | None, edition: dict[str, Results], own: dict[str, Results], waiting: bool = False
) -> Entry:
    """The entry of a claim; ``waiting``: its chapter has an edition, so what is not in it is said to be not testable yet."""

    def verdict(results: dict[str, Results]) -> Verdict | None:
        return judge(claim, results) if any(map(len, results.values())) else None

    there = verdict(edition) or (judge(claim, edition) if waiting else None)

    places = {short(result.provenance["device"]) for results in edition.values() for result in results}
    return Entry(claim, chapter, section, there, verdict(own), ", ".join(sorted(places)))


def claim_sections(chapter: Chapter, project: Project) -> dict[str, str]:
    """The section in which each of a chapter's claims is shown, read from its committed notebook."""
    found, section = {}, None
    for cell in notebooks.read(project.source(chapter)).cells:
        if cell.cell_type == "markdown":
            section = ([label for label in notebooks.labels_of(cell) if label.startswith("sec-")] or [section])[-1]
        elif "book.claims(" in cell.source:
            found |= {claim.id: section for claim in claims().values() if f'"{claim.id}"' in cell.source}
    return found


def tally(found: Iterable[Shown]) -> dict[str, int]:
    """How many claims have each verdict; those with nothing stored are :data:`NOT_RUN`, and identities are left out."""
    counts = dict.fromkeys((*MARKS, NOT_RUN), 0)
    for entry in judged(found):
        counts[entry.best.verdict if entry.best else NOT_RUN] += 1
    return counts


def seeds_needed(found: Iterable[Entry]) -> str:
    """Return the end of a sentence on undecided claims: for how many more seeds would decide, and for how many not."""
    seeds = [entry.best.seeds for entry in judged(found) if entry.best and entry.best.verdict == "undecided"]
    some, never = sum(count is not None for count in seeds), seeds.count(None)
    said = [f"for {some} of them the verdict says how many seeds would decide"] if some else []
    said += [f"for {never} no number of seeds that could be run would, if mean and spread stayed as they are"] if never else []
    return f": {', '.join(said)}" if said else ""


def judged(found: Iterable[S]) -> list[S]:
    """The entries that have or could have a verdict: all but the identities."""
    return [entry for entry in found if not is_identity(entry)]


def is_identity(entry: Shown) -> bool:
    """Return whether the claim holds by construction; a broken identity counts as a claim, so that nobody overlooks it."""
    return entry.claim.identity is not None and (entry.best is None or entry.best.verdict in (IDENTITY, "not testable"))


def by_chapter(found: Iterable[S]) -> dict[Chapter, list[S]]:
    grouped: dict[Chapter, list[S]] = {}
    for entry in found:
        grouped.setdefault(entry.chapter, []).append(entry)
    return grouped
