"""Values of chapter 4's runs by seed, and differences between runs of the same seed: what its claims are computed with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lib.experiments.pruning_names import method
from lib.results import Result, Results
from lib.statistics import NotTestable, why

BySeed = dict[int, float]

TEST = "test_accuracy"

#: A network that is right less often than this has learnt too little for what is lost of it to mean anything.
LEAST_ACCURACY = 0.3


def by_seed(runs: Iterable[Result], name: str, value=lambda r: r.metrics.get(TEST)) -> BySeed:
    """A value of the runs of this name, by seed; runs without one are left out."""
    found = {r.fields["seed"]: value(r) for r in runs if method(r) == name}
    return {seed: number for seed, number in found.items() if number is not None}


def difference(first: BySeed, second: BySeed, *runs: Results) -> list[float]:
    return [a - b for a, b in paired(first, second, *runs)]


def paired(first: BySeed, second: BySeed, *runs: Results) -> list[tuple[float, float]]:
    found = [(value, second[seed]) for seed, value in first.items() if seed in second]
    if not found:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return found


def deviation(values: Iterable[float], of: str) -> float:
    """The standard deviation over seeds.  Raises NotTestable for fewer than two, or where all are equal."""
    values = list(values)
    if len(values) < 2:
        raise NotTestable(f"{of} ran with fewer than two seeds, so it has no standard deviation")
    if not (found := float(np.std(values, ddof=1))) > 0:
        raise NotTestable(f"{of} was right equally often with all {len(values)} seeds: that is no scale to measure with")
    return found


def learnt(accuracies: Iterable[float], who: str = "the dense network") -> None:
    """Raise :class:`NotTestable` where networks, dense ones unless ``who`` says otherwise, have learnt too little."""
    if np.mean(list(accuracies)) < LEAST_ACCURACY:
        raise NotTestable(f"{who} is right in less than {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
