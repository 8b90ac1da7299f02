"""How a claim's values come out of results, as ``values`` in ``data/claims.yml`` declares it; ``data/README.md`` explains the fields.

Most claims read one number of some runs, or compare two such numbers, paired by seed: :class:`Simple`.  All else is a
function of ``lib/studies/<subject>/claims.py``, with what it is told: :class:`Function`.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lib import ROOT
from lib.claims.entry_files import function_of
from lib.claims.picked import Runs, namer
from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.runs.scales import SCALES
from lib.runs.spec import Spec
from lib.studies import chapter
from lib.studies.base.seeds import difference, paired
from lib.system.checks import did_you_mean, require

Studies = Mapping[str, Results]


@dataclass(frozen=True)
class Function:
    """A function of the chapter's ``claims.py``, told ``given`` beside the studies."""

    name: str
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.given.items())})" if self.given else self.name

    def reader(self, subject: str) -> Callable[[Studies], Any]:
        """Return what reads the values from studies.  WrongEntry names a missing function."""
        function = self.found(subject)
        return functools.partial(function, **self.given) if self.given else function

    def found(self, subject: str) -> Callable[..., Any]:
        return function_of(subject, "claims", self.name)

    def code(self, subject: str) -> str:
        """Return the file that the function stands in."""
        return Path(inspect.getsourcefile(inspect.unwrap(self.found(subject))) or "").resolve().relative_to(ROOT).as_posix()

    def check(self, subject: str) -> None:
        """Raise WrongEntry where there is no such function, and TypeError where it cannot be told what is given."""
        inspect.signature(self.found(subject)).bind({}, **self.given)


@dataclass(frozen=True, kw_only=True)
class Simple:
    """A number of some runs, or how it compares with that of others, for each seed that both have.

    ``minus``     the difference to these
    ``below``     by which part of it the number is below that of these
    ``least``     pairs of which neither number reaches this do not count: nothing was learnt there
    ``diverged``  "not testable": a run whose training diverged says nothing; otherwise it counts as it is
    """

    of: Runs
    minus: Runs | None = None
    below: Runs | None = None
    least: float = -math.inf
    diverged: str | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any], studies: tuple[str, ...]) -> Simple:
        """Return what an entry declares; ``studies``: those of the claim.  Raises ValueError for what cannot be meant."""
        check_names("values", entry, [one.name for one in fields(cls)])
        require(entry.get("diverged") in (None, DIVERGED), f"diverged is {entry.get('diverged')!r}: leave it out or say {DIVERGED!r}")
        require("minus" in entry or "least" not in entry, "least is about differences: say minus what")
        require(not {"minus", "below"} <= set(entry), "say minus or below, not both")
        of = some_runs("of", {"study": studies[0], **entry["of"]}, studies)
        found = {what: cls.other(what, of, entry[what], studies) for what in ("minus", "below") if what in entry}
        return cls(of=of, **found, least=entry.get("least", -math.inf), diverged=entry.get("diverged"))

    @staticmethod
    def other(what: str, of: Runs, entry: Mapping[str, Any], studies: tuple[str, ...]) -> Runs:
        """Return the runs that those of ``of`` are compared with, which have what is not said of them."""
        usual: dict[str, Any] = {"study": of.study, "metric": list(of.metric)}
        if not {"run", "where"} & set(entry):
            usual |= {"run": of.run, "where": of.where}
        found = some_runs(what, {**usual, **entry}, studies)
        require(found != of, f"{what} reads the same numbers of the same runs as of")
        return found

    def __str__(self) -> str:
        if self.below:
            return f"part by which {self.of} is below {self.below}"
        return str(self.of) + (f" minus {self.minus}" if self.minus else "")

    @property
    def sides(self) -> tuple[Runs, ...]:
        return tuple(side for side in (self.of, self.minus, self.below) if side)

    def reader(self, subject: str) -> Callable[[Studies], list[float]]:
        """Return what reads the values from studies, one per seed; it raises NotTestable where there is nothing to compare."""
        return functools.partial(self.values, called=namer(subject))

    def values(self, studies: Studies, called: Callable[[Result], str]) -> list[float]:
        if self.diverged:
            for run in (run for side in self.sides for run in side.among(studies[side.study], called)):
                if run.metrics.get("diverged"):
                    raise NotTestable(f"{called(run)!r} diverged with seed {run.fields['seed']}")
        first, *second = (side.by_seed(studies[side.study], called) for side in self.sides)
        runs = [studies[side.study] for side in self.sides]
        if self.minus:
            return difference(first, second[0], *runs, least=self.least)
        if self.below:
            return [1 - own / other for own, other in paired(first, second[0], *runs)]
        return list(first.values())

    def code(self, subject: str) -> str:
        """Return the file that says it."""
        return "data/claims.yml"

    def check(self, subject: str) -> None:
        """Raise ValueError, with what there is, for runs that the chapter has at no scale, or that share a seed."""
        for side in self.sides:
            side.check(namer(subject), {scale: specs.get(side.study, []) for scale, specs in asked_for(subject).items()})


@functools.cache
def asked_for(subject: str) -> dict[str, dict[str, list[Spec]]]:
    """Return the Specs that a chapter asks for, by scale and study."""
    module = chapter(subject).module
    return {scale: module.studies(module.Parameters(scale=scale)) for scale in SCALES}


#: The one thing that ``diverged`` may say.
DIVERGED = "not testable"


def read(entry: str | Mapping[str, Any], studies: tuple[str, ...]) -> Function | Simple:
    """Return how values are read, of ``values`` in ``data/claims.yml``; ``studies``: those of the claim.

    A text names a function.  Raises ValueError for what cannot be meant.
    """
    if isinstance(entry, str):
        return Function(entry)
    if "function" in entry:
        check_names("values", entry, ["function", "given"])
        return Function(entry["function"], entry.get("given", {}))
    require("of" in entry, "values name a function, or say `of` which runs they are")
    return Simple.read(entry, studies)


def some_runs(what: str, entry: Mapping[str, Any], studies: tuple[str, ...]) -> Runs:
    """Return the runs that an entry means.  Raises ValueError for another field, or a study that the claim does not name."""
    check_names(what, entry, [one.name for one in fields(Runs)])
    study, metric = entry["study"], entry.get("metric", ["test_accuracy"])
    require(study in studies, f"{what} reads study {study!r}, and the claim's are {', '.join(studies)}")
    return Runs(**{**entry, "metric": (metric,) if isinstance(metric, str) else tuple(metric)})


def check_names(what: str, entry: Mapping[str, Any], allowed: list[str]) -> None:
    for name in entry:
        require(name in allowed, f"{what} has no field {name!r}; there are {', '.join(allowed)}.{did_you_mean(name, allowed)}")
