"""Two networks on the same images: intervals that cover what they say, and pairing that helps."""

import time

import numpy as np
import pytest
from scipy.stats import norm

from lib.claims.verdict import Bound, seeds_to_decide
from lib.measure.paired import crossed, marked, mcnemar, overlapping, paired_bootstrap
from lib.measure.statistics import Estimate, percent, points, student


def answers(random, seeds, images, lead=0.1, image=0.3, seed=0.05, both=0.5):
    """Two sides that find the same images hard, ``lead`` apart in their logits, and their true difference of accuracies.

    Standard deviations: ``image`` of what a side makes of an image, ``seed`` of a run, ``both`` of the rest.
    """
    hard = random.normal(size=images)
    spread = np.sqrt(1 + image**2 + seed**2 + both**2)
    sides = [
        mean
        + hard
        + image * random.normal(size=images)
        + seed * random.normal(size=(seeds, 1))
        + both * random.normal(size=(seeds, images))
        > 0
        for mean in (1 + lead, 1.0)
    ]
    return *sides, norm.cdf((1 + lead) / spread) - norm.cdf(1 / spread)


def coverage(interval, seeds, trials=200, **effects):
    random = np.random.default_rng(seeds)
    inside = []
    for _ in range(trials):
        first, second, truth = answers(random, seeds, 300, **effects)
        found = interval(first, second)
        inside.append(found.low <= truth <= found.high)
    return np.mean(inside)


def short_bootstrap(first, second):
    return paired_bootstrap(first, second, resamples=500)


def test_one_seeds_interval_covers_the_test_sets_part():
    for interval in (short_bootstrap, crossed):
        assert 0.92 < coverage(interval, 1, seed=0.0) < 0.98
        # ... and, as it says, nothing of what another seed would change.
        assert coverage(interval, 1, seed=0.3) < 0.5


def test_several_seeds_intervals_cover_both_parts():
    assert 0.95 < coverage(short_bootstrap, 3) <= 1.0  # on the safe side
    assert 0.92 < coverage(crossed, 3) < 0.98
    assert 0.92 < coverage(crossed, 5) < 0.98


def test_where_seeds_matter_most_resampling_three_of_them_is_too_narrow():
    assert coverage(short_bootstrap, 3, seed=0.3) < 0.88
    assert coverage(crossed, 3, seed=0.3) > 0.9


def test_seeds_alone_overlook_the_finite_test_set():
    assert coverage(lambda first, second: student(first.mean(1) - second.mean(1)), 5, image=0.6, seed=0.0) < 0.85
    assert coverage(crossed, 5, image=0.6, seed=0.0) > 0.9


def test_the_bootstrap_is_the_plain_one_of_images_and_seeds():
    """Against resampling rows and columns one by one."""
    random = np.random.default_rng(4)
    first, second, _ = answers(random, 4, 60)
    apart = first.astype(float) - second
    rows, columns = random.integers(4, size=(10_000, 4, 1)), random.integers(60, size=(10_000, 1, 60))
    plain = apart[rows, columns].mean((1, 2))
    found = paired_bootstrap(first, second, resamples=10_000)
    assert found.mean == pytest.approx(apart.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.008)


def test_pairing_narrows_the_interval_when_answers_correlate():
    random = np.random.default_rng(5)
    first, second, _ = answers(random, 3, 2000, image=0.1, both=0.1, seed=0.0)
    elsewhere = second[:, random.permutation(2000)]  # as accurate, on other images
    for interval in (paired_bootstrap, crossed):
        assert interval(first, second).half_width < 0.6 * interval(first, elsewhere).half_width


def test_equal_answers_are_no_difference_and_opposite_ones_are_all():
    right = np.random.default_rng(6).random((3, 50)) < 0.7
    for interval in (paired_bootstrap, crossed):
        same = interval(right, right)
        assert (same.mean, same.low, same.high, same.n, same.images) == (0.0, 0.0, 0.0, 3, 50)
        every = interval(np.ones_like(right), np.zeros_like(right))
        assert (every.mean, every.low, every.high) == (1.0, 1.0, 1.0)
        forth, back = interval(right, right[::-1]), interval(right[::-1], right)
        assert forth.mean == -back.mean


def test_it_says_what_it_covers_and_prints_as_other_estimates():
    right = np.random.default_rng(7).random((3, 400)) < 0.7
    for interval in (paired_bootstrap, crossed):
        assert interval(right, right[::-1]).covers == "seeds and images"
        assert interval(right[0], right[1]) == interval(right[:1], right[1:2])
        assert interval(right[0], right[1]).covers == "images" and interval(right[0], right[1]).n == 1
    found = paired_bootstrap(right, np.zeros_like(right))
    assert percent(found) == f"{100 * right.mean():.1f} ± {100 * found.half_width:.1f} % (n=3)"
    assert points(found).endswith("points (n=3)")


def test_the_same_seed_gives_the_same_interval_and_large_tables_are_quick():
    random = np.random.default_rng(8)
    first, second = random.random((2, 5, 10_000)) < 0.7
    start = time.process_time()
    found = paired_bootstrap(first, second)
    assert time.process_time() - start < 1.0
    assert found == paired_bootstrap(first, second) != paired_bootstrap(first, second, seed=1)


def test_mcnemar_counts_the_images_on_which_two_networks_differ():
    first = np.array([True] * 8 + [False] * 2 + [True] * 90)
    second = np.array([False] * 8 + [True] * 2 + [True] * 90)
    # 2 of 10 or fewer, or 8 or more, of a fair coin.
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10 + 45) / 1024) == mcnemar(second, first)
    assert mcnemar(first, first) == 1.0
    with pytest.raises(ValueError, match="2 seeds"):
        mcnemar(np.stack([first, first]), np.stack([second, second]))


def test_marks_go_by_the_interval():
    assert marked(Estimate(0.02, 0.01, 0.03, 3)) == "above" and marked(Estimate(-0.02, -0.03, -0.01, 3)) == "below"
    for undecided in (Estimate(0.02, -0.01, 0.05, 3), Estimate(0.01, 0.0, 0.02, 3), Estimate(0.5, None, None, 1)):
        assert marked(undecided) == "like"
    low, middle, high = Estimate(0.2, 0.1, 0.3, 3), Estimate(0.4, 0.3, 0.5, 3), Estimate(0.6, 0.51, 0.7, 3)
    assert overlapping(low, middle) and overlapping(middle, low)
    assert not overlapping(middle, high) and not overlapping(high, low)
    assert overlapping(low, Estimate(0.9, None, None, 1))


@pytest.mark.parametrize(
    "first, second, says",
    [
        (np.ones((2, 3), bool), np.ones((2, 4), bool), r"\(2, 3\) and \(2, 4\)"),
        (np.ones((0, 3), bool), np.ones((0, 3), bool), "at least one"),
        (np.ones((2, 3)), np.ones((2, 3)), "true or false"),
    ],
)
def test_what_is_no_table_of_answers_is_refused(first, second, says):
    for interval in (paired_bootstrap, crossed):
        with pytest.raises(ValueError, match=says):
            interval(first, second)


def test_the_parts_of_seeds_and_of_items_are_told_apart():
    """Over seeds alone it is Student's interval; what seeds share of the items does not shrink with them."""
    random = np.random.default_rng(0)
    first, second, _ = answers(random, 4, 3000)
    found = crossed(first, second)
    alone = student((first.mean(1) - second.mean(1)).tolist())
    assert found.over_seeds == pytest.approx(alone.half_width)
    assert 0 < found.of_items < found.half_width * 1.2
    many, few = (crossed(*answers(np.random.default_rng(1), seeds, 3000, image=0.8)[:2]) for seeds in (24, 3))
    assert many.over_seeds < few.over_seeds / 2 and many.of_items == pytest.approx(few.of_items, rel=0.5)
    assert crossed(first[0], second[0]).over_seeds is None


def test_more_seeds_are_not_asked_for_where_items_are_lacking():
    shared = np.zeros((3, 400), dtype=bool)
    shared[:, :6] = True  # six images tell the two apart, for each seed
    shared[0, 6] = True
    found = crossed(shared, np.zeros_like(shared))
    for criterion, possible in ((Bound(at_least=0.014), False), (Bound(at_least=-0.01), True)):
        n = seeds_to_decide(
            Estimate(found.mean, found.mean - found.over_seeds, found.mean + found.over_seeds, 3), criterion, found.of_items
        )
        assert (n is not None) == possible
