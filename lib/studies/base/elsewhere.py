"""The best of several, chosen on other seeds than it is judged on: the best of equals looks good on the runs it was chosen by."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from lib.measure.statistics import NotTestable

Name = TypeVar("Name", bound=Hashable)

#: Validation and test accuracy of a run.
Scores = tuple[float, float]


def shared(candidates: Mapping[Name, Mapping[int, Scores]]) -> list[int]:
    """Return the seeds that every candidate has.

    Raises :class:`NotTestable` for fewer than two: on a single one, what is best is so by chance as well.
    """
    seeds = sorted(set.intersection(*(set(runs) for runs in candidates.values()))) if candidates else []
    if len(seeds) < 2:
        raise NotTestable("the best of several is chosen on other seeds than it is judged on, which takes two seeds of each at least")
    return seeds


def chosen(candidates: Mapping[Name, Mapping[int, Scores]], seed: int, pick: Callable = max) -> Name:
    """Return the candidate that ``pick``, max or min, takes by mean validation accuracy over all seeds but this one."""
    others = [other for other in shared(candidates) if other != seed]
    return pick(candidates, key=lambda name: statistics.mean(candidates[name][other][0] for other in others))


def chosen_elsewhere(candidates: Mapping[Name, Mapping[int, Scores]], pick: Callable = max) -> dict[int, float]:
    """Return, by seed, the test accuracy of the candidate that is best by validation on the other seeds."""
    return {seed: candidates[chosen(candidates, seed, pick)][seed][1] for seed in shared(candidates)}
