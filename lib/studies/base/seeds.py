"""Runs and their seeds: a Spec with another seed, and the values of a study by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from lib.runs.results import Result
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
