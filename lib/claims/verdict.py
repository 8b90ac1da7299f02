"""Five verdicts, decided by an interval against a criterion and against no effect.

Nothing here knows a paper or a run: numbers come in and a word goes out, so that the judge itself can be tested and simulated
(:mod:`lib.claims.verdict_errors`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lib.measure.statistics import Estimate

#: The verdicts, from what held to what did not, each with its mark: shape and word together need no colour to be read.
MARKS = {"reproduced": "●", "weaker": "◐", "not seen": "○", "undecided": "?", "not testable": "–"}

#: Fills of cells and chips, which carry dark text; a verdict without one is an outline.  `assets/book.scss` has the same (tested).
FILLS = {"reproduced": "#3fae72", "weaker": "#c9b32b", "not seen": "#e58a4d"}

#: Bars and intervals in figures: the three that decide in colours, a little darker, so that thin lines stand out; the others grey.
COLOURS = {
    "reproduced": "#2f9e62",
    "weaker": "#a3930f",
    "not seen": "#d9742b",
    "undecided": "#8a8f94",
    "not testable": "#b4b8bb",
    "not run": "#dcdee0",
}

#: From the least favourable: where tasks disagree, the first of these that one of them got is the claim's.
ORDER = ("not seen", "undecided", "weaker", "reproduced")

#: The number of seeds beyond which none is named.
MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One side of a criterion.  Units are those of the claim's values (accuracies are fractions)."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"a criterion names either at_least or at_most, not {self.at_least}, {self.at_most}")
        if not (isinstance(self.value, (int, float)) and math.isfinite(self.value)):
            raise ValueError(f"a criterion is a number, not {self.value!r}")

    @property
    def value(self) -> float:
        value = self.at_least if self.at_most is None else self.at_most
        assert value is not None
        return value

    def met_by(self, value: float) -> bool:
        return value >= self.value if self.at_most is None else value <= self.value

    def met_by_all_of(self, estimate: Estimate) -> bool:
        """Return whether the whole interval meets it; never without an interval."""
        if estimate.low is None or estimate.high is None:
            return False
        return self.met_by(estimate.low) and self.met_by(estimate.high)

    def missed_by_all_of(self, estimate: Estimate) -> bool:
        """Return whether no value in the interval meets it; never without an interval."""
        if estimate.low is None or estimate.high is None:
            return False
        return not self.met_by(estimate.low) and not self.met_by(estimate.high)

    def beyond(self, value: float) -> Bound:
        """Return the bound in the same direction at another value."""
        return Bound(at_least=value) if self.at_least is not None else Bound(at_most=value)

    def spelled(self, unit: str) -> str:
        return f"{'at least' if self.at_least is not None else 'at most'} {in_unit(self.value, unit)}"


def in_unit(value: float, unit: str) -> str:
    number = {
        "points": f"{100 * value:g} point{'s' * (round(100 * abs(value), 9) != 1)}",
        "percent": f"{100 * value:g} %",
        "times": f"{value:g}×",
    }
    return number.get(unit, f"{value:g}")


def css_class(verdict: str) -> str:
    """Return the verdict's name in style sheets: ``not-seen``."""
    return verdict.replace(" ", "-")


def decide(estimate: Estimate, criterion: Bound, no_effect: float | None = None) -> str:
    """Return the verdict on values with this mean and interval.

    ``no_effect``  the value that a method without any effect would have; None where a claim knows none

    * **reproduced**: the whole interval meets the criterion
    * **weaker**: none of it does, and the whole interval lies on the claim's side of no effect
    * **not seen**: none of it does, and it holds no effect or lies on the other side
    * **undecided**: the criterion lies within the interval, or there is no interval
    """
    if criterion.met_by_all_of(estimate):
        return "reproduced"
    if not criterion.missed_by_all_of(estimate):
        return "undecided"
    # A bound at no effect or before it ("no worse than half a point below") leaves no room for a weaker effect.
    if no_effect is None or criterion.met_by(no_effect) or no_effect in (estimate.low, estimate.high):
        return "not seen"
    return "weaker" if criterion.beyond(no_effect).met_by_all_of(estimate) else "not seen"


def seeds_to_decide(estimate: Estimate, criterion: Bound, of_items: float = 0.0) -> int | None:
    """Return with how many seeds the interval would leave the criterion out, if mean and spread stayed as they are.

    ``estimate``  over seeds alone
    ``of_items``  half of the width that the test items alone leave, which more seeds cannot make smaller

    None where that takes more than :data:`MOST_SEEDS` seeds, or more test items, or where one run says nothing of a spread.
    """
    distance = abs(estimate.mean - criterion.value)
    if estimate.half_width is None or distance <= of_items:
        return None
    n = np.arange(2, MOST_SEEDS + 1)
    of_seeds = (estimate.half_width * np.sqrt(estimate.n) / stats.t.ppf(0.975, estimate.n - 1)) ** 2 / n
    both = of_seeds + (of_items / stats.norm.ppf(0.975)) ** 2
    freedom = np.divide(both, of_seeds, out=np.full(len(n), np.inf), where=of_seeds > 0) ** 2 * (n - 1)
    half = np.maximum(stats.t.ppf(0.975, n - 1) * np.sqrt(of_seeds), stats.t.ppf(0.975, freedom) * np.sqrt(both))
    enough = n[half < distance]
    return int(enough[0]) if len(enough) else None
