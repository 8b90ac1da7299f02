"""Runs and their seeds: a Spec with another seed, and the values of a study by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.runs.spec import Spec

S = TypeVar("S", bound=Spec)
Value = TypeVar("Value")


def with_seed(spec: S, seed: int) -> S:
    """Return the run and all that it builds on, with this seed."""
    return replace(spec, seed=seed, **{name: part_with_seed(getattr(spec, name), seed) for name in spec.fields_with_runs})


def part_with_seed(part: Spec | tuple, seed: int) -> Any:
    if isinstance(part, Spec):
        return with_seed(part, seed)
    return tuple(with_seed(one, seed) if isinstance(one, Spec) else one for one in part)


def seeded(seeds: Iterable[int], *specs: Spec) -> list[Spec]:
    """Return each Spec with each seed, each of them once."""
    return list(dict.fromkeys(with_seed(spec, seed) for spec in specs for seed in seeds))


def tested(result: Result) -> float:
    """Return a run's accuracy on the test items."""
    return result.metrics["test_accuracy"]


def each_seed(runs: Iterable[Result], value: Callable[[Result], Value | None], what: str = "the same") -> dict[int, Value]:
    """Return a value of each run, by seed; runs without one are left out.

    Raises ValueError where two different runs share a seed: the one that came last would hide the other.
    """
    found: dict[int, Value] = {}
    keys: dict[int, str] = {}
    for run in runs:
        seed = run.fields["seed"]
        if keys.setdefault(seed, run.key) != run.key:
            raise ValueError(f"two runs are called {what!r} with seed {seed}: {keys[seed]} and {run.key}; give them names that differ")
        if (number := value(run)) is not None:
            found[seed] = number
    return found


def by_seed(
    runs: Iterable[Result], name: str, called: Callable[[Result], str], value: Callable[[Result], Value | None]
) -> dict[int, Value]:
    """Return a value of the runs that are called so, by seed, as :func:`each_seed` does."""
    return each_seed((run for run in runs if called(run) == name), value, name)


def paired(first: Mapping[int, float], second: Mapping[int, float], *runs: Results) -> list[tuple[float, float]]:
    """Return both values of each seed that has both; NotTestable where there is none, with the reason why ``runs`` lack some."""
    found = [(value, second[seed]) for seed, value in first.items() if seed in second]
    if not found:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return found


def difference(first: Mapping[int, float], second: Mapping[int, float], *runs: Results, least: float = -math.inf) -> list[float]:
    """Return first minus second for each seed that has both, where at least one of the two reaches ``least``; else NotTestable."""
    kept = [a - b for a, b in paired(first, second, *runs) if max(a, b) >= least]
    if not kept:
        raise NotTestable(f"no network is right in {least:.0%} of the cases: nothing was learnt to compare")
    return kept
