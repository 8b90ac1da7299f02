"""What a person would give a chapter: understood, or refused in one line."""

from dataclasses import dataclass

import pytest

from lib.studies import CHAPTERS
from lib.studies.base.parameters import ChapterParameters, checked, numbers


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    rate: float = 1.0
    word: str | None = None
    flag: bool = False


def chapter(subject):
    return next(each for each in CHAPTERS if each.subject == subject).module.Parameters


@pytest.mark.parametrize(
    "given, taken",
    [
        ({"word": 50}, "50"),
        ({"word": 2.5}, "2.5"),
        ({"word": 10**20}, f"1{'0' * 20}"),
        ({"word": float("inf")}, "inf"),
        ({"word": None}, None),
        ({"word": "text"}, "text"),
    ],
)
def test_a_text_parameter_takes_the_text_of_a_number(given, taken):
    assert checked(Parameters, given).word == taken


@pytest.mark.parametrize(
    "given, error, says",
    [
        ({"rate": float("inf")}, ValueError, "below 1,000,000,000,000, not inf"),
        ({"rate": float("nan")}, ValueError, "not nan"),
        ({"rate": 10**400}, ValueError, "not more"),
        ({"rate": "fast"}, TypeError, "takes float, not 'fast' (str)"),
        ({"rate": True}, TypeError, "takes float, not True (bool)"),
        ({"flag": 1}, TypeError, "takes bool, not 1 (int)"),
        ({"word": True}, TypeError, "takes str or None, not True (bool)"),
        ({"word": ["a"]}, TypeError, "not ['a'] (list)"),
        ({"seeds": 10**9}, ValueError, "at most 100"),
        ({"rate": "x" * 10**6}, TypeError, "xxx ... (str)"),
    ],
)
def test_anything_else_is_refused_in_one_short_line(given, error, says):
    with pytest.raises(error) as refusal:
        checked(Parameters, given)
    assert says in str(refusal.value) and len(str(refusal.value)) < 200 and "\n" not in str(refusal.value)


def test_a_whole_number_for_a_float_is_a_float():
    assert isinstance(checked(Parameters, {"rate": 3}).rate, float)
    given = checked(chapter("growth"), {"lr": 1, "steps": 10})
    assert isinstance(given.lr, float) and isinstance(given.steps, int)


@pytest.mark.parametrize("text, found", [("50", (50,)), ("10, 50,500", (10, 50, 500)), (" 1e1 ,.5", (10, 0.5)), ("-1", (-1,))])
def test_lists_of_numbers(text, found):
    assert numbers("ratios", text) == found


@pytest.mark.parametrize(
    "text", ["", ",", "10,", "10 50", "a", "1, nan", "inf", "1e999", "-inf", "[1, 2]", "1," * 10**6 + "1", "1" * 10**6]
)
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(ValueError, match="ratios is .*: give numbers, separated by commas") as refusal:
        numbers("ratios", text)
    assert len(str(refusal.value)) < 150


@pytest.mark.parametrize(
    "subject, given, says",
    [
        ("growth", {"lr": float("inf")}, "parameter 'lr'"),
        ("growth", {"rates": "1, nan, 1, 1"}, "rates is '1, nan, 1, 1'"),
        ("growth", {"shares": "inf, 1, 1, 1"}, "shares is"),
        ("pruning", {"ratios": "10, inf"}, "ratios is '10, inf'"),
        ("privacy", {"penalty": float("inf")}, "parameter 'penalty'"),
        ("privacy", {"budgets": "nan, 1"}, "budgets is 'nan, 1'"),
        ("privacy", {"budgets": 50}, "give two or more numbers"),
        ("distillation", {"temperature": float("inf")}, "'temperature'"),
        ("distillation", {"alpha": float("nan")}, "'alpha'"),
        ("tickets", {"sparsity": float("nan")}, "'sparsity'"),
        ("benchmarks", {"density": float("nan")}, "'density'"),
        ("attention", {"longest": 10**15}, "'longest'"),
    ],
)
def test_chapters_refuse_what_is_not_finite(subject, given, says):
    with pytest.raises(ValueError) as refusal:
        checked(chapter(subject), given)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    "subject, given, same",
    [("pruning", {"ratios": 50}, {"ratios": "50"}), ("moe", {"output": 2024}, {"output": "2024"}), ("growth", {"lr": 1}, {"lr": 1.0})],
)
def test_chapters_take_a_number_for_a_text(subject, given, same):
    assert checked(chapter(subject), given) == checked(chapter(subject), same)
