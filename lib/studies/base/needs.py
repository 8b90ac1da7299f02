"""What must hold before a claim's values mean anything, said of numbers.

A chapter's own needs (``<subject>_needs.py``, named by ``data/claims.yml``) read the numbers out of its studies and ask here.
Each function raises :class:`lib.measure.statistics.NotTestable` with the reason where the need is not met.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from lib.measure.statistics import NotTestable, student

#: Test accuracy of a linear classifier of the pixels, trained on all training images: `benchmarks/linear_floor.py` measures it
#: (three seeds, weight decay chosen on validation images).  A network below it has not learnt what a network is for, and
#: nothing can be said about its parts.
LINEAR = {"digits": 0.9345, "mnist": 0.925, "cifar10": 0.41, "cifar100": 0.1835}

#: A direction without a figure is looked for at this size: it must not drown in what more training would bring.
ONE_POINT = 0.01


def above_floor(accuracies: Collection[float], floor: float, who: str, what: str) -> None:
    """The mean accuracy of ``who`` must lie above ``floor``, which ``what`` reaches."""
    if not len(accuracies):
        raise NotTestable(f"{who} was not run, so nothing says that it has learnt anything")
    if (mean := float(np.mean(list(accuracies)))) <= floor:
        raise NotTestable(f"{who} is right in {mean:.1%} of the cases, and {what} in {floor:.1%}: it has not learnt enough to be judged")


def above_linear(accuracies: Collection[float], dataset: str, who: str) -> None:
    """The network must beat a linear classifier of the pixels, see :data:`LINEAR`."""
    above_floor(accuracies, LINEAR[dataset], who, "a linear classifier of the pixels")


def flat(usual: Mapping[int, float], longer: Mapping[int, float], margin: float, who: str, times: float = 2) -> None:
    """What more training brings to ``who`` must be less than ``margin``: else an arm that is a little ahead in time wins."""
    both, spelled = [seed for seed in usual if seed in longer], "twice" if times == 2 else f"{times:.3g} times"
    if not both:
        raise NotTestable(f"{who} was not trained {spelled} as long, so nothing says what more training would bring")
    if (gain := float(np.mean([longer[seed] - usual[seed] for seed in both]))) >= margin:
        raise NotTestable(
            f"{spelled} the training brings {who} {100 * gain:.1f} points, more than the {100 * margin:g} that decide: it is still learning"
        )


def matters(values: Collection[float], least: float, what: str) -> None:
    """The spread over what is varied must be at least ``least``, else nothing can depend on it."""
    if len(values) < 2:
        raise NotTestable(f"{what} was not varied")
    if (spread := max(values) - min(values)) < least:
        raise NotTestable(f"{what} makes {100 * spread:.1f} points of difference: nothing can depend on it")


def at_least(values: Collection[float], least: float, who: str, what: str) -> None:
    """The mean of a count must reach ``least``."""
    if not len(values):
        raise NotTestable(f"{who} was not run")
    if (mean := float(np.mean(list(values)))) < least:
        raise NotTestable(f"{who} has {mean:.3g} {what}, and {least:g} are asked")


def leaves_out_zero(values: Collection[float], what: str) -> None:
    """The interval of a denominator must lie above 0, else a share of it means nothing."""
    estimate = student(values)
    if estimate.low is None or estimate.low <= 0:
        end = (
            "one run gives no interval"
            if estimate.low is None
            else f"its interval is {100 * estimate.low:+.1f} to {100 * estimate.high:+.1f} points"
        )
        raise NotTestable(f"{what} is not above 0 for sure ({end}): a share of it means nothing")


def better(first: Collection[float], second: Collection[float], who: str, than: str, least: float = 0.0) -> None:
    """The mean of ``first`` must be above that of ``second``, by ``least`` or more."""
    if not len(first) or not len(second):
        raise NotTestable(f"{who} and {than} were not both run")
    if (ahead := float(np.mean(list(first)) - np.mean(list(second)))) <= least:
        raise NotTestable(f"{who} is {100 * ahead:+.1f} points from {than}: it would have to be better")
