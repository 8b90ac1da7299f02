"""Verdicts are decided by the interval, and err as often as a 95 % interval does."""

import numpy as np
import pytest

from lib.claims.entries import Claim
from lib.claims.judge import of_values
from lib.claims.verdict import MARKS, Bound, decide, seeds_to_decide
from lib.claims.verdict_errors import FIGURE, SEEDS, error_rates, simulated
from lib.measure.statistics import Estimate, exactly, items_alone, student


def estimate(low, high):
    return Estimate((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (1.1, 1.4, "reproduced"),
        (1.0, 1.4, "reproduced"),
        (0.2, 0.8, "weaker"),
        (-0.2, 0.8, "not seen"),
        (-0.8, -0.2, "not seen"),
        (0.0, 0.0, "not seen"),
        (0.5, 1.5, "undecided"),
        (-9.0, 9.0, "undecided"),
    ],
)
def test_the_interval_decides(low, high, verdict):
    assert decide(estimate(low, high), Bound(at_least=1.0), no_effect=0.0) == verdict
    assert decide(estimate(-high, -low), Bound(at_most=-1.0), no_effect=0.0) == verdict


def test_no_worse_leaves_no_room_for_weaker():
    margin = Bound(at_least=-0.5)
    assert decide(estimate(-0.9, -0.6), margin, no_effect=0.0) == "not seen"
    assert decide(estimate(-0.4, 0.3), margin, no_effect=0.0) == "reproduced"
    assert decide(estimate(0.2, 0.8), Bound(at_least=1.0), no_effect=None) == "not seen"


def test_without_an_interval_nothing_is_decided():
    assert decide(Estimate(5.0, None, None, 1), Bound(at_least=1.0), 0.0) == "undecided"


def test_the_number_of_seeds_that_would_decide():
    found = student([0.05, -0.01, 0.02])  # mean 0.02, deviation 0.03
    n = seeds_to_decide(found, Bound(at_least=0.0))
    assert n == 12
    from scipy import stats

    half = [stats.t.ppf(0.975, k - 1) * 0.03 / k**0.5 for k in (n - 1, n)]
    assert half[0] >= 0.02 > half[1]
    assert seeds_to_decide(found, Bound(at_least=0.02)) is None  # the mean lies on the criterion
    assert seeds_to_decide(found, Bound(at_least=0.0), of_items=0.03) is None  # the items leave more open
    assert seeds_to_decide(Estimate(0.02, None, None, 1), Bound(at_least=0.0)) is None


# Constructed results


def judged(values, items=None, **changes):
    claim = Claim(
        **{
            "id": "c",
            "subject": "moe",
            "paper": "p",
            "claim": "A claim.",
            "figure": "1",
            "where": "1",
            "metric": "M.",
            "unit": "points",
            "study": ("s",),
            "values": "f",
            "criterion": Bound(at_least=0.0),
            "no_effect": 0.0,
        }
        | changes
    )
    return of_values(claim, values, items, {})


@pytest.mark.parametrize(
    "values",
    [
        (0.0001, 0.0001, 0.0001),  # one image of ten thousand, three times
        (0.0001, 0.0001, 0.0002),
        (0.0, 0.0001, 0.0),
        (0.05, 0.05, -0.09),
        (0.0, 0.0, 0.0),
        (0.02,),
    ],
)
def test_next_to_nothing_decides_nothing(values):
    for criterion in (Bound(at_least=0.0), Bound(at_most=0.0)):
        assert judged(values, 10_000, criterion=criterion).verdict == "undecided"


def test_a_handful_of_test_items_decides_nothing():
    verdict = judged((0.0054, 0.0053, 0.0055), 412)
    assert verdict.verdict == "undecided" and "412 test items" in verdict.text
    assert judged((0.0054, 0.0053, 0.0055), 100_000).verdict == "reproduced"


def test_items_widen_an_interval_and_never_narrow_it():
    wide = student([0.1, -0.1, 0.3])
    assert items_alone(wide, 100)[0] == wide and items_alone(wide, None) == (wide, 0.0)
    narrow, least = items_alone(student([0.01, 0.01, 0.0101]), 1000)
    assert narrow.high - narrow.mean == pytest.approx(least, rel=1e-3) == pytest.approx(1.96 * (0.01003 * 0.98997 / 1000) ** 0.5, rel=1e-3)
    for values in ([0.01, 0.012, 0.011], [0.004, 0.0041, 0.0042], [0.0, 0.0, 0.0], [0.3, 0.3, 0.3]):
        seeds = student(values)
        for items in (50, 1000, 10_000):
            both, least = items_alone(seeds, items)
            assert both.half_width >= max(seeds.half_width, least * 0.999) and both.mean == seeds.mean


def test_the_number_of_seeds_allows_for_the_items():
    seeds = student([0.012, 0.0, 0.006])
    alone, least = seeds_to_decide(seeds, Bound(at_least=0.0)), items_alone(seeds, 2000)[1]
    n = seeds_to_decide(seeds, Bound(at_least=0.0), least)
    assert alone < n < 1000
    more = np.tile([0.012, 0.0, 0.006], 400)  # the same spread, about
    for count, decided in ((3 * (n // 3) + 6, True), (3, False)):
        assert (items_alone(student(more[:count]), 2000)[0].low > 0) == decided


def test_an_interval_with_items_holds_the_truth_as_often_as_it_says():
    """Networks that answer the same items: drawn again with their items, a true difference of a point lies within 95 of 100 intervals."""
    draw, truth, held, alone = np.random.default_rng(0), 0.01, 0, 0
    for _ in range(600):
        shared = draw.random(5000) < truth  # these items tell the two apart for each seed
        values = shared.mean() + draw.normal(0, 0.0003, 3)
        seeds = student(values)
        both = items_alone(seeds, 5000)[0]
        held += both.low <= truth <= both.high
        alone += seeds.low <= truth <= seeds.high
    assert held / 600 > 0.9 and alone / 600 < 0.4


def test_what_is_exact_is_said_to_be_exact():
    verdict = judged((38.67, 38.67, 38.67), unit="times", criterion=Bound(at_least=20.0), exact=True, no_effect=1.0)
    assert (verdict.verdict, verdict.measured) == ("reproduced", "38.67× (exact)")
    assert exactly([1.0, 3.0]) == Estimate(2.0, 1.0, 3.0, 2, exact=True)
    assert judged((1.0, 3.0), unit="number", criterion=Bound(at_least=2.0), exact=True).verdict == "undecided"
    assert judged((1.0, 1.0), unit="number").verdict == "undecided"  # equal, and not said to be exact


def test_a_goal_stands_beside_the_criterion():
    verdict = judged((0.931, 0.932, 0.933), unit="percent", criterion=Bound(at_least=0.925), goal=Bound(at_least=0.94), no_effect=None)
    assert verdict.verdict == "reproduced" and "own goal, at least 94 %, is not met" in verdict.text


# How often it errs


@pytest.mark.parametrize("seeds", SEEDS)
def test_error_rates_are_those_of_an_interval(seeds):
    better = error_rates(0.0, seeds, criterion=0.0)
    assert better["reproduced"] == pytest.approx(0.025, abs=0.008) == better["not seen"]
    assert better["undecided"] == pytest.approx(0.95, abs=0.012) and better["weaker"] == 0
    figure = error_rates(0.0, seeds)
    assert figure["reproduced"] < 0.001 and figure["weaker"] < 0.03
    at_it = error_rates(FIGURE, seeds)
    assert at_it["reproduced"] == pytest.approx(0.025, abs=0.008) and at_it["undecided"] == pytest.approx(0.95, abs=0.012)


def test_more_seeds_decide_more():
    assert error_rates(0.0, 3)["undecided"] > error_rates(0.0, 5)["undecided"] > error_rates(0.0, 8)["undecided"]
    assert error_rates(2 * FIGURE, 8)["reproduced"] > 0.95


def test_simulations_are_repeatable_and_complete():
    found = simulated(trials=200)
    assert found == simulated(trials=200) and len(found) == 15
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1) and set(shares) == set(MARKS) - {"not testable"}
    assert np.isclose(error_rates(0.0, 3, trials=50, seed=1)["undecided"], error_rates(0.0, 3, trials=50, seed=1)["undecided"])
    with pytest.raises(ValueError, match="two seeds"):
        error_rates(0.0, 1)


#: Shares of reproduced, weaker, not seen and undecided at 3, 5 and 8 seeds, as simulated with seed 0.  They change only with the judge.
ERRORS = {
    "no effect, the claim says “better”": ((0.025, 0.0, 0.023, 0.953), (0.028, 0.0, 0.024, 0.949), (0.024, 0.0, 0.024, 0.952)),
    "no effect, the claim has a figure": ((0.0, 0.021, 0.444, 0.535), (0.0, 0.023, 0.883, 0.094), (0.0, 0.023, 0.974, 0.003)),
    "half of the figure": ((0.0, 0.054, 0.108, 0.838), (0.0, 0.155, 0.253, 0.593), (0.0, 0.419, 0.259, 0.322)),
    "exactly the figure": ((0.025, 0.017, 0.006, 0.953), (0.028, 0.019, 0.004, 0.949), (0.024, 0.024, 0.0, 0.952)),
    "twice the figure": ((0.474, 0.0, 0.0, 0.526), (0.906, 0.0, 0.0, 0.094), (0.998, 0.0, 0.0, 0.002)),
}


@pytest.mark.parametrize("what", ERRORS)
def test_error_rates_are_what_they_were(what):
    found = simulated()
    for seeds, shares in zip(SEEDS, ERRORS[what], strict=True):
        assert (
            tuple(round(found[f"{what}, {seeds} seeds"][verdict], 3) for verdict in ("reproduced", "weaker", "not seen", "undecided"))
            == shares
        )
