"""The rows and sentences about what growth must not change, on made-up results."""

import pytest

from lib.runs.results import Result
from lib.studies.growth import page_identities as page


def made(arrays, metrics=None, **spec):
    return Result("growth", "key", spec, metrics or {}, {}, arrays, {})


EXACT = made(
    {
        "operators": ["a", "b", "c"],
        "claimed": [True, False, False],
        "double": [[1e-15, 2e-14], [8.0, 0.1], [3.0, 14.0]],
        "single": [[0], [0], [0]],
    },
    {"variants": 2, "worst_double": 2e-14, "worst_single": 4e-6},
)
NOISE = [
    made({"decibels": [20.0, 0.0, -20.0], "noise": [1e-6, 2e-6, 4.0]}),
    made({"decibels": [20.0, 0.0, -20.0], "noise": [3e-6, 1e-6, 5.4]}),
]
TRAINED = [
    made({"differences": {"as it should be": [0.0, 1e-15], "fresh moments": [0.01, 0.077], "usual rates": [0.03, 0.0]}}, after=30),
    made({"differences": {"as it should be": [2e-15, 0.0], "fresh moments": [0.02, 0.0], "usual rates": [0.01, 0.0]}}, after=30),
]


def test_rows_have_the_largest_difference_of_each_kind():
    rows = page.identities([EXACT], NOISE, TRAINED)
    assert list(rows["differs by at most"]) == ["2e-14", "4e-06", "8 to 14", "3e-06", "5.4", "2e-15", "0.077", "0.03"]
    assert "10 times the weights' size" in rows["how"][4] and rows["what is compared"][5] == "losses over 30 steps, nats"
    assert len(page.identities([], [], TRAINED)) == 3 and page.identities([], [], []).empty


@pytest.mark.parametrize(
    "told, numbers",
    [(page.of_noise(NOISE), ("3e-06", "5.4", "10 times")), (page.of_commuting(TRAINED), ("30 steps", "2e-15", "0.077", "0.03"))],
)
def test_sentences_have_the_numbers_of_the_rows(told, numbers):
    assert all(number in told for number in numbers)


def test_nothing_is_said_of_nothing():
    assert page.of_noise([]) == page.of_commuting([]) == ""
