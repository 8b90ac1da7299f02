"""Intervals over seeds, and the one way this book prints a number.

A number without the number of runs behind it says little, so everything here carries n.  Accuracies are
fractions in results; they become per cent or points only when they are printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from lib.runs.results import Results


class NotTestable(Exception):
    """The results at hand cannot decide a claim; the message says what is missing and why."""


@dataclass(frozen=True)
class Estimate:
    """A mean over n runs with its interval; ``low`` and ``high`` are None where n = 1 allows none.

    ``exact``       the values are counted or computed, not drawn: the interval is their range, and n does not count seeds
    ``over_seeds``  where seeds and items are crossed, half of the interval that the seeds alone would give; ``of_items`` half of what the
                    items that all seeds share would, which more seeds cannot make smaller
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    exact: bool = field(default=False, kw_only=True)
    over_seeds: float | None = field(default=None, kw_only=True, compare=False)
    of_items: float = field(default=0.0, kw_only=True, compare=False)

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def student(values: Iterable[float], level: float = 0.95) -> Estimate:
    """Mean and two-sided Student t interval, which assumes the runs' values are about normal.

    Raises ValueError for no values, or for one that is not finite: a diverged run must be given the value
    its experiment says (chance accuracy, say), not silently left out.
    """
    sample = finite(values)
    mean = float(np.mean(sample))
    if len(sample) == 1:
        return Estimate(mean, None, None, 1)
    half = float(stats.t.ppf((1 + level) / 2, len(sample) - 1) * stats.sem(sample))
    return Estimate(mean, mean - half, mean + half, len(sample))


def exactly(values: Iterable[float]) -> Estimate:
    """Return the mean and the range of values that do not depend on chance: counts, sizes, what holds by construction.

    Raises ValueError as :func:`student`.
    """
    sample = finite(values)
    return Estimate(float(sample.mean()), float(sample.min()), float(sample.max()), len(sample), exact=True)


def items_alone(estimate: Estimate, items: int | None, level: float = 0.95) -> tuple[Estimate, float]:
    """Return the estimate with an interval that allows for the test items too, and half of the width that they alone leave it.

    All seeds answer the same items, so what is peculiar to these items does not show in the spread over seeds.  Where results hold
    their answers, :func:`lib.measure.paired.crossed` measures how much that is.  Elsewhere a difference d of two accuracies on N items
    is taken to vary by d (1 - |d|) / N over sets of items, as if every item that tells the two apart did so for each seed.  Over
    the 1,128 pairs of the benchmarks chapter's networks whose answers are stored, that is 1.2 times what their items really share in the
    median, and 0.6 to 3.4 times in nine cases of ten.

    The two variances add up, with the degrees of freedom of a crossed table (Hillis 2007); the interval is never narrower than
    that over seeds alone.
    """
    if not items:
        return estimate, 0.0
    size = min(abs(estimate.mean), 1.0)
    of_items = size * (1 - size) / items
    least = float(stats.norm.ppf((1 + level) / 2) * math.sqrt(of_items))
    if estimate.half_width is None or of_items == 0:
        return estimate, least
    of_seeds = (estimate.half_width / stats.t.ppf((1 + level) / 2, estimate.n - 1)) ** 2
    both = of_seeds + of_items
    freedom = (both / of_seeds) ** 2 * (estimate.n - 1) if of_seeds else math.inf
    half = float(stats.t.ppf((1 + level) / 2, freedom) * math.sqrt(both))
    if half <= estimate.half_width:
        return estimate, least
    return replace(estimate, low=estimate.mean - half, high=estimate.mean + half), least


def bootstrap(
    values: Iterable[float], statistic: Callable = np.mean, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Estimate:
    """``statistic`` of the values with its bias-corrected accelerated bootstrap interval.

    For many values that are far from normal (latencies, per-example outcomes).  With a handful of seeds the
    bootstrap is too narrow: use :func:`student` there.  A constant sample has the interval of zero width.
    """
    sample = finite(values)
    centre = float(statistic(sample))
    if len(sample) == 1:
        return Estimate(centre, None, None, 1)
    if np.ptp(sample) == 0:
        return Estimate(centre, centre, centre, len(sample))
    found = stats.bootstrap(
        (sample,), statistic, confidence_level=level, n_resamples=resamples, rng=np.random.default_rng(seed)
    ).confidence_interval
    return Estimate(centre, float(found.low), float(found.high), len(sample))


def paired(first: Results, second: Results, metric: str, on: Sequence[str] = ("seed",)) -> list[tuple[float, float]]:
    """Values of ``metric`` in both, matched by the Spec fields ``on``; what has no partner is left out.

    Seeds fix the initialisation and the order of the data, so pairing removes what both runs share.
    Raises ValueError when two results of one side match (narrow it with ``Results.where`` first), and
    :class:`NotTestable` when no pair is left, naming what is missing.
    """
    sides = []
    for results in (first, second):
        side = {}
        for result in results:
            name = tuple(result.fields[field] for field in on)
            if name in side:
                raise ValueError(
                    f"two results share {dict(zip(on, name))}; pair on more fields than {list(on)} or narrow the results with where()"
                )
            side[name] = float(result.metrics[metric])
        sides.append(side)
    common = [name for name in sides[0] if name in sides[1]]
    if not common:
        raise NotTestable(f"no two results to compare by {metric}{why(first, second)}")
    return [(sides[0][name], sides[1][name]) for name in common]


def paired_differences(first: Results, second: Results, metric: str, on: Sequence[str] = ("seed",)) -> list[float]:
    """``first`` minus ``second`` for each pair; see :func:`paired`."""
    return [a - b for a, b in paired(first, second, metric, on)]


def why(*results: Results) -> str:
    """The reasons, each once, why results are missing; empty when none is."""
    reasons = list(dict.fromkeys(missing.reason for part in results for missing in part.missing))
    return f" ({'; '.join(reasons)})" if reasons else ""


def finite(values: Iterable[float]) -> np.ndarray:
    sample = np.asarray(list(values), dtype=float)
    if sample.size == 0:
        raise ValueError("an estimate needs at least one value")
    if not np.isfinite(sample).all():
        raise ValueError(f"an estimate needs finite values, not {sample.tolist()}")
    return sample


#: What stands for the number of runs that are not there: a page of an unfinished edition has them in any of its sentences.
ABSENT = "not run"


def estimated(values: Iterable[float] | Estimate) -> Estimate | None:
    """The estimate of some values, or the one that was given; None without any value."""
    if isinstance(values, Estimate):
        return values
    sample = list(values)
    return student(sample) if sample else None


def spelled(values: Iterable[float] | Estimate, factor: float = 1.0, digits: int = 3, unit: str = "", signed: bool = False) -> str:
    """``78.4 ± 0.6 % (n=3)``: mean, half of the 95 % interval, and the number of runs; ``not run`` where there is none.

    One run has no interval and says so by its n alone.
    """
    estimate = estimated(values)
    if estimate is None:
        return ABSENT
    mean = f"{estimate.mean * factor:{'+' if signed else ''}z.{digits}f}"  # z: no minus before zero
    if estimate.exact and estimate.low is not None and estimate.high is not None:
        ends = "" if estimate.low == estimate.high else f", {estimate.low * factor:.{digits}f} to {estimate.high * factor:.{digits}f}"
        return f"{mean}{unit} (exact{ends})"
    spread = "" if estimate.half_width is None else f" ± {estimate.half_width * factor:.{digits}f}"
    return f"{mean}{spread}{unit} (n={estimate.n})"


def percent(values: Iterable[float] | Estimate) -> str:
    """Fractions as per cent: ``78.4 ± 0.6 % (n=3)``."""
    return spelled(values, factor=100, digits=1, unit=" %")


def points(values: Iterable[float] | Estimate) -> str:
    """Differences of fractions as percentage points: ``+1.24 ± 0.31 points (n=3)``."""
    return spelled(values, factor=100, digits=2, unit=" points", signed=True)


def times(values: Iterable[float] | Estimate) -> str:
    """Ratios: ``1.53 ± 0.04× (n=3)``."""
    return spelled(values, digits=2, unit="×")


def number(values: Iterable[float] | Estimate) -> str:
    """Anything else, to three significant digits, and no more than two of its interval: ``0.0312 ± 0.0008 (n=3)``.

    Numbers below a thousandth are written with a power of ten: ``(4.6 ± 3.0) × 10⁻⁶ (n=3)``.
    So are the ends of their range where they are exact: ``4.6 × 10⁻⁶ (exact, 3.3 × 10⁻⁶ to 5.7 × 10⁻⁶)``.
    """
    estimate = estimated(values)
    if estimate is None:
        return ABSENT
    half = 0.0 if estimate.exact else estimate.half_width or 0.0
    size = max(abs(estimate.mean), half)
    if 0 < size < 1e-3:
        power = math.floor(math.log10(size))
        power += round(size * 10.0**-power, 1) >= 10  # 9.96 is written 1.0 × 10
        raised = f" × 10{str(power).translate(SUPERSCRIPT)}"
        text, _, count = spelled(estimate, factor=10.0**-power, digits=1).partition(" (")
        ends = [number([end]).partition(" (")[0] for end in (estimate.low, estimate.high) if end is not None]
        if estimate.exact and estimate.low != estimate.high:
            count = f"exact, {' to '.join(ends)})"
        return f"{f'({text})' if ' ' in text else text}{raised} ({count}"
    digits = max(0, 2 - math.floor(math.log10(abs(estimate.mean) or half))) if size else 0
    if half:
        digits = min(digits, max(0, 1 - math.floor(math.log10(half))))
    return spelled(estimate, digits=min(digits, 8))


SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Divisors and letters of large counts.
LETTERS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(values: Iterable[float] | float) -> str:
    """A count that is the same in all runs, to three significant digits: ``2.51 M`` parameters.  Of several the first is written."""
    value = float(values) if isinstance(values, (int, float)) else float(next(iter(values)))
    divisor, letter = next((large for large in LETTERS if abs(value) >= large[0]), (1.0, ""))
    digits = max(0, 2 - math.floor(math.log10(abs(value / divisor)))) if letter else 0
    return f"{value / divisor:.{digits}f}" + (f"\N{NO-BREAK SPACE}{letter}" if letter else "")


#: How a claim's unit prints its values.
UNITS = {"percent": percent, "points": points, "times": times, "number": number}
