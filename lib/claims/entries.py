"""What papers say: the claims of ``data/claims.yml`` and the papers of ``data/papers.yml``.

How a claim's values come out of results: :mod:`lib.claims.declared`.  What must hold before they mean anything is a function in
``lib/studies/<subject>/needs.py``, looked up here by name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lib import ROOT
from lib.claims.bibliography import Reference, references
from lib.claims.declared import Function, Simple, Studies, read
from lib.claims.entry_files import WrongEntry, fields_of, function_of, read_entries
from lib.claims.verdict import Bound, in_unit
from lib.measure.statistics import UNITS, Estimate
from lib.system.checks import did_you_mean, one_of, require

#: What a claim's function returns: one value per run, or an interval that it computed itself, or either of them by task.
Values = Iterable[float] | Estimate


#: What a method without any effect has, by unit; a claim may say otherwise.  Shares and plain numbers have no such value.
NO_EFFECT = {"points": 0.0, "times": 1.0}


@dataclass(frozen=True)
class Need:
    """A precondition of a claim: a function of ``lib/studies/<subject>/needs.py``, and its margin where it takes one."""

    name: str
    margin: float | None = None

    @classmethod
    def of(cls, entry: str | Mapping[str, float]) -> Need:
        if isinstance(entry, str):
            return cls(entry)
        ((name, margin),) = entry.items()
        require(isinstance(margin, (int, float)), f"the margin of {name} is a number, not {margin!r}")
        return cls(name, margin)

    def function(self, subject: str) -> Callable[..., None]:
        """Return the function that raises :class:`NotTestable` where the need is not met.  :class:`WrongEntry` names a missing one."""
        return function_of(subject, "needs", self.name)

    def check(self, subject: str, studies: Studies) -> None:
        self.function(subject)(studies, *(() if self.margin is None else (self.margin,)))

    def spelled(self, subject: str) -> str:
        """Return what is needed, in the words of the function's docstring."""
        first = (inspect.getdoc(self.function(subject)) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
        need = first.removeprefix("Need ")
        return need if self.margin is None else need.replace("``margin``", in_unit(self.margin, "points"))


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
    values: Function | Simple
    criterion: Bound
    goal: Bound | None = None
    no_effect: float | None = None
    needs: tuple[Need, ...] = ()
    items: str | None = None
    exact: bool = False
    identity: str | None = None
    parts: str = "all"

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Claim:
        fields_of(cls, entry, "a claim")
        study = (entry["study"],) if isinstance(entry["study"], str) else tuple(entry["study"])
        one_of("unit", entry["unit"], UNITS)
        require(isinstance(entry.get("needs", []), list), "needs are a list")
        one_of("parts", entry.get("parts", "all"), ("all", "any"))
        fields: dict[str, Any] = {
            "no_effect": NO_EFFECT.get(entry["unit"]),
            "items": "test" if entry["unit"] == "points" else None,
            **entry,
            "study": study,
            "values": read(entry["values"], study),
            "criterion": Bound(**fields_of(Bound, entry["criterion"], "criterion")),
            "goal": Bound(**fields_of(Bound, entry["goal"], "goal")) if "goal" in entry else None,
            "needs": tuple(map(Need.of, entry.get("needs", ()))),
        }
        return cls(**fields)

    @property
    def by_abstract(self) -> bool:
        """Whether the paper's figure is what its abstract says, without the conditions and spreads of a table."""
        return self.where == "abstract"

    @property
    def rule(self) -> str:
        """What decides, in sentences: the criterion, no effect, the goal beside it, what is needed first."""
        said = f"Reproduced if {self.criterion.spelled(self.unit)}{' in one of its parts' if self.parts == 'any' else ''}."
        if self.no_effect is not None and not self.criterion.met_by(self.no_effect):
            said += f" Weaker if on its side of {in_unit(self.no_effect, self.unit)}."
        if self.goal:
            said += f" The book's own goal is {self.goal.spelled(self.unit)}."
        if self.needs:
            said += f" It needs {'; '.join(need.spelled(self.subject) for need in self.needs)}."
        return said

    def function(self) -> Callable[[Studies], Values | Mapping[str, Values]]:
        """Return what reads this claim's values from results.  :class:`WrongEntry` names a missing function."""
        return self.values.reader(self.subject)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A summarised paper or software reference: its entry in ``references.bib`` and the fields of ``data/papers.yml``."""

    key: str
    reference: Reference
    summary: str
    sections: tuple[str, ...]
    code: str | None = None
    implements: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    background: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Paper:
        """Return the paper of an entry.  Raises ValueError where the bibliography lacks it."""
        key = entry["key"]
        fields_of(cls, entry, "a paper")
        require(key in references(), f"references.bib has no such entry.{did_you_mean(key, references())}")
        lists: dict[str, Any] = {name: tuple(entry[name]) for name in ("sections", "implements", "corrections") if name in entry}
        return cls(**{**entry, **lists}, reference=references()[key])

    @property
    def title(self) -> str:
        return self.reference.title

    @property
    def year(self) -> int:
        return self.reference.year


@functools.cache
def claims() -> dict[str, Claim]:
    """Every claim of the book by id, in the order of ``data/claims.yml``."""
    return read_entries(ROOT / "data" / "claims.yml", Claim.of, "id")


@functools.cache
def papers() -> dict[str, Paper]:
    """Every paper of the book by citation key, in the order of ``data/papers.yml``."""
    return read_entries(ROOT / "data" / "papers.yml", Paper.of, "key")


def paper_of(claim: Claim) -> Paper:
    """The paper that a claim is made in.  Raises :class:`WrongEntry` where there is none of that key."""
    if claim.paper not in papers():
        raise WrongEntry(f"claims.yml: {claim.id!r}: papers.yml has no paper {claim.paper!r}.{did_you_mean(claim.paper, papers())}")
    return papers()[claim.paper]


def find(claim_id: str) -> Claim:
    """The claim of this id; ValueError with the nearest one otherwise."""
    if claim_id not in claims():
        raise ValueError(f"no claim {claim_id!r} in data/claims.yml.{did_you_mean(claim_id, claims())}")
    return claims()[claim_id]
