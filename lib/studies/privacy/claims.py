"""The values behind the privacy chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.base.seeds import difference, paired
from lib.studies.privacy.names import method

Studies = Mapping[str, Results]

#: A network that is right less often than this has learnt too little for what is lost of it to mean anything.
LEAST_ACCURACY = 0.3

TEST = "test_accuracy"

#: Why nothing is said about curvature where no straight line was run.
NO_LINE = "no straight line was run to compare with"


def by_seed(runs: Results, name: str, budget: float, value: Callable[[Result], Any]) -> dict[int, Any]:
    """A value of the runs of this method at this budget, by seed; runs without one are left out."""
    return seeds.by_seed((r for r in runs if r.spec["budget"] == budget), name, method, value)


def metric(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.metrics.get(name)


def scarce(runs: Results) -> tuple[float, float]:
    """The two smallest budgets, the larger first: the papers' 12.9 and 6 thousand ReLUs."""
    budgets = sorted({r.spec["budget"] for r in runs})
    if len(budgets) < 2:
        raise NotTestable(f"there are not two budgets{why(runs)}")
    return budgets[1], budgets[0]


def baseline(studies: Studies) -> dict[int, float]:
    found = seeds.each_seed(studies["baseline"], lambda r: r.metrics[TEST], "all ReLUs")
    learnt = {seed: accuracy for seed, accuracy in found.items() if accuracy >= LEAST_ACCURACY}
    if found and not learnt:
        raise NotTestable(f"no network with all its ReLUs is right in {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
    return learnt


# AutoReP


def dapa_minus_line_at_smallest(studies: Studies) -> list[float]:
    """Of lines whose square stays 0."""
    runs, others = studies["budgets"], studies["polynomials"]
    _, smallest = scarce(runs)
    line = by_seed(others, "straight line", smallest, metric(TEST))
    if not line:
        raise NotTestable(NO_LINE + why(others))
    return difference(by_seed(runs, "DaPa", smallest, metric(TEST)), line, runs, others)


def dapa_minus_best_line(studies: Studies) -> list[float]:
    """Against the better of the identity and the fitted straight line, by validation accuracy on the other seeds."""
    runs, others = studies["budgets"], studies["polynomials"]
    small, _ = scarce(runs)
    lines: dict[str, dict[int, Scores]] = {
        name: by_seed(where, name, small, lambda r: (r.metrics["val_accuracy"], r.metrics[TEST]))
        for name, where in (("identity (SNL)", runs), ("straight line", others))
    }
    if not all(lines.values()):
        raise NotTestable(NO_LINE + why(others))
    return difference(by_seed(runs, "DaPa", small, metric(TEST)), chosen_elsewhere(lines), runs, others)


def small_budget_minus_all(studies: Studies) -> list[float]:
    runs = studies["budgets"]
    small, _ = scarce(runs)
    return difference(by_seed(runs, "DaPa", small, metric(TEST)), baseline(studies), runs, studies["baseline"])


def returns_with_over_without(studies: Studies) -> list[float]:
    runs, others = studies["budgets"], studies["hysteresis"]
    small, _ = scarce(runs)
    pairs = paired(
        by_seed(runs, "DaPa", small, metric("returns_per_relu")),
        by_seed(others, "DaPa, hysteresis 0", small, metric("returns_per_relu")),
        runs,
        others,
    )
    counted = [with_ / without for with_, without in pairs if without]
    if not counted:
        raise NotTestable("no ReLU returned without hysteresis either: there is nothing to steady")
    return counted


def minus_at_small_budget(studies: Studies, name: str, study: str, other: str) -> list[float]:
    """Networks of this name against those that another study holds."""
    runs, others = studies["budgets"], studies[study]
    small, _ = scarce(runs)
    return difference(by_seed(runs, name, small, metric(TEST)), by_seed(others, other, small, metric(TEST)), runs, others)
