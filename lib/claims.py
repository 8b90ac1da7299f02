"""The claim ledger: what a paper says, and whether our runs bear it out.

``data/claims.yml`` holds the claims, ``data/papers.yml`` the papers.  A verdict is computed from results by
:func:`judge`, never typed.  How a claim's values come out of results is a function in
``lib/experiments/<subject>_claims.py``; this module only judges them:

* **reproduced**: at least two runs, and their whole 95 % interval (Student t) meets the criterion;
* **partly**: the mean meets the criterion but the interval reaches beyond it, or one run meets it, or the
  mean meets only the weaker ``partly`` bound that some claims name;
* **not reproduced**: anything else that was measured;
* **not testable**: nothing was measured that could decide.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib import ROOT
from lib.checks import did_you_mean
from lib.data_mix import MixedData, check_unmixed
from lib.results import Results
from lib.statistics import UNITS, Estimate, NotTestable, student, why

#: The verdicts, each with its mark: shape and word together, so that a verdict needs no colour to be read.
MARKS = {"reproduced": "●", "partly": "◐", "not reproduced": "○", "not testable": "–"}


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One side of a criterion.  Units are those of the claim's values (accuracies are fractions)."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"a criterion names either at_least or at_most, not {self.at_least}, {self.at_most}")

    def met_by(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= self.at_most

    def met_by_all_of(self, estimate: Estimate) -> bool:
        """Whether the whole interval meets it; never without an interval."""
        edge = estimate.low if self.at_least is not None else estimate.high
        return edge is not None and self.met_by(edge)

    def spelled(self, unit: str) -> str:
        value = self.at_least if self.at_least is not None else self.at_most
        number = {"points": f"{100 * value:g} points", "percent": f"{100 * value:g} %", "times": f"{value:g}×"}
        return f"{'at least' if self.at_least is not None else 'at most'} {number.get(unit, f'{value:g}')}"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of one paper; the fields are those of ``data/claims.yml``, described in ``data/README.md``."""

    id: str
    subject: str
    paper: str
    claim: str
    figure: str
    where: str
    metric: str
    unit: str
    study: tuple[str, ...]
    values: str
    criterion: Bound
    partly: Bound | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Claim:
        study = entry["study"]
        return cls(**{**entry, "study": (study,) if isinstance(study, str) else tuple(study),
                      "criterion": Bound(**entry["criterion"]),
                      "partly": Bound(**entry["partly"]) if "partly" in entry else None})

    def function(self) -> Callable[[Mapping[str, Results]], list[float]]:
        """The function that reads this claim's values from results.  AttributeError names it when missing."""
        return getattr(importlib.import_module(f"lib.experiments.{self.subject}_claims"), self.values)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A summarised paper or software reference; the fields are those of ``data/papers.yml``."""

    key: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    summary: str
    sections: tuple[str, ...]
    arxiv: str | None = None
    doi: str | None = None
    code: str | None = None
    implements: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    background: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Paper:
        lists = {name: tuple(entry[name]) for name in ("authors", "sections", "implements", "corrections")
                 if name in entry}
        return cls(**{**entry, **lists})


@dataclass(frozen=True)
class Verdict:
    """What :func:`judge` found; ``text`` is one sentence that says why."""

    claim: Claim
    verdict: str
    text: str
    estimate: Estimate | None = None

    @property
    def n(self) -> int:
        return self.estimate.n if self.estimate else 0

    @property
    def mean(self) -> float | None:
        return self.estimate.mean if self.estimate else None

    @property
    def low(self) -> float | None:
        return self.estimate.low if self.estimate else None

    @property
    def high(self) -> float | None:
        return self.estimate.high if self.estimate else None

    @property
    def marked(self) -> str:
        return f"{MARKS[self.verdict]} {self.verdict}"

    @property
    def measured(self) -> str:
        """The mean with its interval and n in the claim's unit; a dash when nothing was measured."""
        return UNITS[self.claim.unit](self.estimate) if self.estimate else "–"


def read_entries(path: Path, make: Callable, key: str) -> dict[str, Any]:
    """Entries of a YAML list by their key.  Raises ValueError naming the entry at fault."""
    found: dict[str, Any] = {}
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        name = entry.get(key, "?")
        if name in found:
            raise ValueError(f"{path.name}: {name!r} is there twice")
        try:
            found[name] = make(entry)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path.name}: {name!r}: {error}") from error
    return found


@functools.cache
def claims() -> dict[str, Claim]:
    """Every claim of the book by id, in the order of ``data/claims.yml``."""
    return read_entries(ROOT / "data" / "claims.yml", Claim.of, "id")


@functools.cache
def papers() -> dict[str, Paper]:
    """Every paper of the book by citation key, in the order of ``data/papers.yml``."""
    return read_entries(ROOT / "data" / "papers.yml", Paper.of, "key")


def find(claim_id: str) -> Claim:
    """The claim of this id; ValueError with the nearest one otherwise."""
    if claim_id not in claims():
        raise ValueError(f"no claim {claim_id!r} in data/claims.yml.{did_you_mean(claim_id, claims())}")
    return claims()[claim_id]


def judge(claim_id: str | Claim, results_by_study: Mapping[str, Results]) -> Verdict:
    """Compare one claim with results.

    results_by_study must hold every study the claim reads (KeyError otherwise); a study may be empty.  Results of two
    variants of one data set decide nothing.
    """
    claim = claim_id if isinstance(claim_id, Claim) else find(claim_id)
    studies = {name: results_by_study[name] for name in claim.study}
    if not any(len(results) for results in studies.values()):
        return Verdict(claim, "not testable", f"No result of {' or '.join(claim.study)}{why(*studies.values())}.")
    try:
        check_unmixed(result for results in studies.values() for result in results)
        values = tuple(float(value) for value in claim.function()(studies))
    except (NotTestable, MixedData) as reason:
        return Verdict(claim, "not testable", sentence(str(reason)))
    if not values:
        return Verdict(claim, "not testable", f"No value of {claim.values}{why(*studies.values())}.")
    try:
        estimate = student(values)
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {claim.values} returned something else than finite numbers: {error}") from error
    return decide(claim, estimate)


def decide(claim: Claim, estimate: Estimate) -> Verdict:
    """The verdict on a claim whose values have this mean and 95 % interval."""
    asked = claim.criterion.spelled(claim.unit)
    mean_meets = claim.criterion.met_by(estimate.mean)
    if claim.criterion.met_by_all_of(estimate):
        return Verdict(claim, "reproduced", f"The whole interval is {asked}.", estimate)
    if mean_meets and estimate.n == 1:
        return Verdict(claim, "partly", f"The one run is {asked}; one run gives no interval.", estimate)
    if mean_meets:
        return Verdict(claim, "partly", f"The mean is {asked}, the interval is not.", estimate)
    if claim.partly and claim.partly.met_by(estimate.mean):
        weaker = claim.partly.spelled(claim.unit)
        return Verdict(claim, "partly", f"The mean is {weaker}, not {asked}.", estimate)
    open_end = estimate.low is not None and (claim.criterion.met_by(estimate.low) or claim.criterion.met_by(estimate.high))
    rest = "; the interval reaches it, so more seeds could change this" if open_end else ""
    return Verdict(claim, "not reproduced", f"The mean is not {asked}{rest}.", estimate)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
