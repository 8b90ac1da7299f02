"""Some runs of a study and a number of each, as a claim's ``values`` in ``data/claims.yml`` name them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.runs.spec import Spec, all_fields
from lib.studies.base.seeds import each_seed
from lib.system.checks import did_you_mean, require

#: What ``where`` may ask of a field beside a value: the end of what the runs have that are as asked otherwise.
ENDS = {"smallest": min, "largest": max}

#: A place of a curve or of an array: ``dropped[-1]`` is the last one.
PLACE = re.compile(r"(.+)\[(-?\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Some runs of a study, and a number of each.

    ``run``      what ``method`` of ``lib/studies/<subject>/names.py`` calls them; None: every run of the study
    ``where``    Spec fields and the values that they have; ``smallest`` and ``largest`` are the ends of what the runs have
    ``metric``   a metric, or a place of a curve or an array, ``dropped[-1]``; the mean where several are named
    ``missing``  why nothing can be said where there is no such run
    """

    study: str
    run: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict, hash=False)
    metric: tuple[str, ...] = ("test_accuracy",)
    missing: str | None = None

    def __str__(self) -> str:
        where = "".join(f", {name} {value}" for name, value in self.where.items())
        return f"{' and '.join(self.metric)} of {self.run or 'each run'}{where} ({self.study})"

    def among(self, runs: Iterable[Result], called: Callable[[Result], str]) -> list[Result]:
        """Return those of ``runs`` that are meant."""
        found = [run for run in runs if self.run is None or called(run) == self.run]
        for name, wanted in sorted(self.where.items(), key=lambda item: is_end(item[1])):  # the ends are those of what is left
            held = [run.fields[name] for run in found if run.fields.get(name) is not None]
            value = ENDS[wanted](held, default=None) if is_end(wanted) else wanted
            found = [run for run in found if run.fields.get(name) == value]
        return found

    def by_seed(self, runs: Results, called: Callable[[Result], str]) -> dict[int, float]:
        """Return the number of each run that is meant, by seed; runs without one are left out.

        Raises ValueError where two of them share a seed, or none has such a metric; NotTestable with ``missing`` where nothing is found.
        """
        found = self.among(runs, called)
        for name in self.metric:
            self.check_metric(name, found)
        values = each_seed(found, self.number, str(self))
        if self.missing and not values:
            raise NotTestable(self.missing + why(runs))
        return values

    def number(self, run: Result) -> float | None:
        values = [value for name in self.metric if (value := placed(run, name)) is not None]
        return float(np.mean(values)) if len(values) == len(self.metric) else None

    def check_metric(self, name: str, runs: list[Result]) -> None:
        """Raise ValueError, with what there is, where runs are there and none of them has this metric, curve or array."""
        place = PLACE.fullmatch(name)
        held = [one for run in runs for one in ((run.curves, run.arrays) if place else (run.metrics,))]
        bare = place[1] if place else name
        if held and not any(bare in one for one in held):
            known = sorted({known for one in held for known in one})
            raise ValueError(f"no {'curve or array' if place else 'metric'} {bare!r} in {self}; there are {', '.join(known)}")

    def check(self, called: Callable[[Result], str], specs: Mapping[str, list[Spec]]) -> None:
        """Raise ValueError, with what there is, where no scale has such a run; ``specs``: those of the study, by scale."""
        every = [unfinished(spec) for of_scale in specs.values() for spec in of_scale]
        if self.run is not None:
            names = list(dict.fromkeys(map(called, every)))
            known = f"there are {', '.join(names)}.{did_you_mean(self.run, names)}"
            require(self.run in names, f"study {self.study!r} has no run {self.run!r}; {known}")
        own = [run for run in every if self.run is None or called(run) == self.run]
        for name, wanted in self.where.items():
            held = [run.fields[name] for run in own if name in run.fields]
            known = {known for run in own for known in run.fields}
            require(held, f"no run of {self} has a field {name!r}.{did_you_mean(name, known)}")
            there = ", ".join(dict.fromkeys(map(str, held)))
            require(is_end(wanted) or wanted in held, f"no run of {self} has {name} {wanted!r}; there are {there}")
        picked = {scale: self.among(map(unfinished, of_scale), called) for scale, of_scale in specs.items()}
        require(any(picked.values()), f"no run is all of {self}")
        for found in picked.values():
            each_seed(found, lambda run: run.key, str(self))


def placed(run: Result, name: str) -> float | None:
    """Return a run's metric, or what stands at a place of its curve or array; None where it has none."""
    if place := PLACE.fullmatch(name):
        series = run.curves.get(place[1]) or run.arrays.get(place[1])
        return series[int(place[2])] if series else None
    return run.metrics.get(name)


def is_end(wanted: Any) -> bool:
    return isinstance(wanted, str) and wanted in ENDS


def namer(subject: str) -> Callable[[Result], str]:
    """Return what gives the runs of a chapter their names."""
    return importlib.import_module(f"lib.studies.{subject}.names").method


def unfinished(spec: Spec) -> Result:
    """Return the result of a Spec as far as it is known before it is run: enough to tell its name."""
    return Result(spec.experiment, spec.key, all_fields(spec), {}, {}, {}, {})
