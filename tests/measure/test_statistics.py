"""Intervals over runs, and how numbers are printed."""

import numpy as np
import pytest

from lib.measure.statistics import Estimate, amount, bootstrap, exactly, number, percent, points, student, times


def test_student_interval_is_the_textbook_one():
    estimate = student([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert estimate.half_width == pytest.approx(4.302652729 / 3**0.5)


def test_student_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(1.0, 1.0, (2000, 4))
    covered = np.mean([e.low <= 1.0 <= e.high for e in map(student, samples)])
    assert 0.935 < covered < 0.965


def test_one_run_has_no_interval_and_a_constant_one_of_no_width():
    assert student([0.5]) == Estimate(0.5, None, None, 1) == bootstrap([0.5])
    assert student([0.5, 0.5]) == Estimate(0.5, 0.5, 0.5, 2) == bootstrap([0.5, 0.5])


def test_bootstrap_follows_a_statistic_and_its_skew():
    values = np.random.default_rng(1).exponential(1.0, 200)
    estimate = bootstrap(values, np.median)
    assert estimate.low < estimate.mean == np.median(values) < estimate.high
    assert estimate == bootstrap(values, np.median)


@pytest.mark.parametrize("values, says", [([], "at least one"), ([1.0, float("nan")], "finite")])
def test_what_is_no_sample_is_an_error(values, says):
    with pytest.raises(ValueError, match=says):
        student(values)


def test_numbers_carry_interval_and_count():
    assert percent([0.78, 0.784, 0.788]) == "78.4 ± 1.0 % (n=3)"
    assert percent([0.784]) == "78.4 % (n=1)"
    assert points([0.01, 0.02, 0.03]) == "+2.00 ± 2.48 points (n=3)"
    assert points([-0.000001]) == "+0.00 points (n=1)"
    assert points([-0.001]) == "-0.10 points (n=1)"
    assert times([1.5, 1.5]) == "1.50 ± 0.00× (n=2)"
    assert number([0.03121]) == "0.0312 (n=1)"
    assert number([1234.5, 1235.5]) == "1235 ± 6 (n=2)"
    assert number([0.0, 0.0]) == "0 ± 0 (n=2)"
    assert number([0.2, 0.3, 0.5]) == "0.33 ± 0.38 (n=3)", "no more digits than the interval has"
    assert {told([]) for told in (percent, points, times, number)} == {"not run"}
    assert number([4e-6, 5e-6]) == "(4.5 ± 6.4) × 10⁻⁶ (n=2)" and number([2e-5]) == "2.0 × 10⁻⁵ (n=1)"


def test_the_range_of_a_small_exact_number_has_its_powers_of_ten():
    assert number(exactly([3.3e-6, 4.8e-6, 5.7e-6])) == "4.6 × 10⁻⁶ (exact, 3.3 × 10⁻⁶ to 5.7 × 10⁻⁶)"
    assert number(exactly([0.0, 1e-6])) == "5.0 × 10⁻⁷ (exact, 0 to 1.0 × 10⁻⁶)"
    assert number(exactly([0.0, 9.99e-7])) == "5.0 × 10⁻⁷ (exact, 0 to 1.0 × 10⁻⁶)"
    assert number(exactly([2e-5, 2e-5])) == "2.0 × 10⁻⁵ (exact)"


def test_large_counts_have_three_digits_and_a_letter():
    assert [amount(value).replace("\xa0", " ") for value in (2512345, [124_000.0, 1.0], 12, 999, 3.4e9)] == [
        "2.51 M",
        "124 k",
        "12",
        "999",
        "3.40 G",
    ]
