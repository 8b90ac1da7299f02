"""Runs and their seeds: a Spec with another seed, and the values of a study by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

from lib.runs.results import Result
from lib.runs.spec import Spec

S = TypeVar("S", bound=Spec)
Value = TypeVar("Value")


def with_seed(spec: S, seed: int) -> S:
    """Return the run and all that it builds on, with this seed."""
    return replace(
        spec,
        seed=seed,
        **{field.name: part_with_seed(getattr(spec, field.name), seed) for field in fields(spec) if builds_on(getattr(spec, field.name))},
    )


def builds_on(part: Any) -> bool:
    """Return whether a field holds a run, or runs."""
    return isinstance(part, Spec) or isinstance(part, tuple) and any(isinstance(one, Spec) for one in part)


def part_with_seed(part: Spec | tuple, seed: int) -> Any:
    if isinstance(part, Spec):
        return with_seed(part, seed)
    return tuple(with_seed(one, seed) if isinstance(one, Spec) else one for one in part)


def seeded(seeds: Iterable[int], *specs: Spec) -> list[Spec]:
    """Return each Spec with each seed, each of them once."""
    return list(dict.fromkeys(with_seed(spec, seed) for spec in specs for seed in seeds))


def by_seed(
    runs: Iterable[Result], name: str, called: Callable[[Result], str], value: Callable[[Result], Value | None]
) -> dict[int, Value]:
    """Return a value of the runs that are called so, by seed; runs without one are left out.

    Raises ValueError where two different runs share name and seed: the one that came last would hide the other.
    """
    found: dict[int, Value] = {}
    keys: dict[int, str] = {}
    for run in runs:
        if called(run) != name:
            continue
        seed = run.fields["seed"]
        if keys.setdefault(seed, run.key) != run.key:
            raise ValueError(f"two runs are called {name!r} with seed {seed}: {keys[seed]} and {run.key}; give them names that differ")
        if (number := value(run)) is not None:
            found[seed] = number
    return found
