"""Values of the pruning chapter's runs by seed, and differences between runs of the same seed: what its claims are computed with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.pruning.names import method

BySeed = dict[int, float]

TEST = "test_accuracy"

#: A network that is right less often than this has learnt too little for what is lost of it to mean anything.
LEAST_ACCURACY = 0.3


def by_seed(runs: Iterable[Result], name: str, value=lambda r: r.metrics.get(TEST)) -> BySeed:
    """A value of the runs of this name, by seed; runs without one are left out."""
    return seeds.by_seed(runs, name, method, value)


def difference(first: BySeed, second: BySeed, *runs: Results) -> list[float]:
    return [a - b for a, b in paired(first, second, *runs)]


def paired(first: BySeed, second: BySeed, *runs: Results) -> list[tuple[float, float]]:
    found = [(value, second[seed]) for seed, value in first.items() if seed in second]
    if not found:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return found


def learnt(accuracies: Iterable[float], who: str = "the dense network") -> None:
    """Raise :class:`NotTestable` where networks, dense ones unless ``who`` says otherwise, have learnt too little."""
    if np.mean(list(accuracies)) < LEAST_ACCURACY:
        raise NotTestable(f"{who} is right in less than {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
