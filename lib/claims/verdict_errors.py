"""How often the judge errs: verdicts on simulated runs whose true effect is known."""

from __future__ import annotations

import numpy as np
from scipy import stats

from lib.claims.verdict import MARKS, Bound, decide
from lib.measure.statistics import Estimate
from lib.system.checks import require

#: Numbers of seeds that are simulated.
SEEDS = (3, 5, 8)

#: The paper's effect in standard deviations of a difference between seeds.  With the 0.77 points found in this book, two of
#: them are a point and a half.
FIGURE = 2.0


def error_rates(effect: float, seeds: int, *, criterion: float = FIGURE, trials: int = 4000, seed: int = 0) -> dict[str, float]:
    """Return the share of each verdict over simulated experiments.

    ``effect``     the true mean of the values, which are normal with a standard deviation of 1; no effect is 0
    ``seeds``      values in each experiment
    ``criterion``  what the claim asks for at least

    Raises ValueError for fewer than two seeds, which have no interval, and for no trial.
    """
    require(seeds >= 2 and trials >= 1, f"{seeds} seeds and {trials} trials: an interval takes two seeds, a rate one trial")
    values = np.random.default_rng(seed).normal(effect, 1.0, (trials, seeds))
    mean = values.mean(1)
    half = stats.t.ppf(0.975, seeds - 1) * values.std(1, ddof=1) / np.sqrt(seeds)
    found = [decide(Estimate(m, m - h, m + h, seeds), Bound(at_least=criterion), no_effect=0.0) for m, h in zip(mean, half)]
    return {verdict: found.count(verdict) / trials for verdict in MARKS if verdict != "not testable"}


def simulated(trials: int = 4000, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return the error rates behind the ledger's figure: what is true and the number of seeds → verdict → share."""
    cases = {
        "no effect, the claim says “better”": (0.0, 0.0),
        "no effect, the claim has a figure": (0.0, FIGURE),
        "half of the figure": (FIGURE / 2, FIGURE),
        "exactly the figure": (FIGURE, FIGURE),
        "twice the figure": (2 * FIGURE, FIGURE),
    }
    return {
        f"{what}, {n} seeds": error_rates(effect, n, criterion=criterion, trials=trials, seed=seed)
        for what, (effect, criterion) in cases.items()
        for n in SEEDS
    }
