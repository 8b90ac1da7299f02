"""Claims: each is complete and leads to a function, and verdicts follow from numbers alone."""

import pytest

from lib import claims
from lib.claims import Bound, Claim, judge
from lib.experiments import CHAPTERS
from lib.results import Missing, Result, Results
from lib.spec import Spec
from lib.statistics import UNITS, NotTestable

ALL = list(claims.claims().values())


class Run(Spec):
    experiment = "test"


def results(*values: float) -> Results:
    found = tuple(Result("test", f"k{seed}", {"seed": seed}, {"accuracy": value}, {}, {}, {"device": "cpu"})
                  for seed, value in enumerate(values))
    return Results(found)


def claim(**changes) -> Claim:
    return Claim(**{"id": "c", "subject": "moe", "paper": "p", "claim": "A claim.", "figure": "1", "where": "Table 1",
                    "metric": "A metric.", "unit": "points", "study": ("s",), "values": "f",
                    "criterion": Bound(at_least=0.0)} | changes)


@pytest.fixture
def verdict_of(monkeypatch):
    """Judge values directly: the claim's function returns them as they are."""
    def verdict(*values: float, **changes) -> str:
        monkeypatch.setattr(Claim, "function", lambda self: lambda studies: list(values))
        return judge(claim(**changes), {"s": results(*(values or (0.0,)))}).verdict
    return verdict


@pytest.mark.parametrize("values, verdict", [
    ((0.02, 0.03, 0.025), "reproduced"),       # the interval lies above 0
    ((0.0, 0.0, 0.0), "reproduced"),           # no spread, on the bound itself
    ((0.05, -0.01, 0.02), "partly"),           # the interval reaches below 0
    ((0.02,), "partly"),                       # one run has no interval
    ((-0.02, -0.03, -0.025), "not reproduced"),
    ((-0.05, 0.01, -0.02), "not reproduced"),  # the mean decides against it, although 0 is in the interval
    ((-0.02,), "not reproduced"),
    ((), "not testable"),
])
def test_verdicts_for_at_least(verdict_of, values, verdict):
    assert verdict_of(*values) == verdict


def test_verdicts_for_at_most_mirror_those_for_at_least(verdict_of):
    bound = {"criterion": Bound(at_most=1.6)}
    assert verdict_of(1.4, 1.45, 1.42, **bound) == "reproduced"
    assert verdict_of(1.4, 1.7, 1.5, **bound) == "partly"
    assert verdict_of(2.0, 2.1, 2.2, **bound) == "not reproduced"


def test_a_weaker_bound_makes_partly(verdict_of):
    bounds = {"criterion": Bound(at_least=0.28), "partly": Bound(at_least=0.0)}
    assert verdict_of(0.1, 0.12, 0.11, **bounds) == "partly"
    assert verdict_of(-0.1, -0.12, -0.11, **bounds) == "not reproduced"


def test_an_open_outcome_is_named(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [-0.05, 0.03, -0.02])
    assert "more seeds" in judge(claim(), {"s": results(1.0)}).text


def test_not_testable_gives_the_reason(monkeypatch):
    empty = Results((), (Missing(Run(), "there is no GPU"),))
    verdict = judge(claim(), {"s": empty})
    assert (verdict.verdict, verdict.n, verdict.measured) == ("not testable", 0, "–") and "no GPU" in verdict.text

    def undecidable(studies):
        raise NotTestable("no teacher is better than its student")

    monkeypatch.setattr(Claim, "function", lambda self: undecidable)
    verdict = judge(claim(), {"s": results(1.0)})
    assert verdict.text == "No teacher is better than its student."


def test_values_that_are_no_numbers_name_the_claim(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [float("nan")])
    with pytest.raises(ValueError, match="claim c: f"):
        judge(claim(), {"s": results(1.0)})


def test_a_verdict_carries_its_numbers(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [0.01, 0.02, 0.03])
    verdict = judge(claim(), {"s": results(1.0)})
    assert verdict.n == 3 and verdict.mean == pytest.approx(0.02)
    assert verdict.low == pytest.approx(0.02 - 4.302653 * 0.01 / 3 ** 0.5)
    assert verdict.measured == "+2.00 ± 2.48 points (n=3)" and verdict.marked == "◐ partly"


def test_a_misspelt_claim_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'switch-quality'"):
        judge("switch-qualty", {})


def test_a_study_that_was_not_given_is_an_error():
    with pytest.raises(KeyError):
        judge("switch-quality", {})


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1.0, "at_most": 2.0}])
def test_a_criterion_has_one_side(bounds):
    with pytest.raises(ValueError, match="either"):
        Bound(**bounds)


def test_a_broken_entry_is_named(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("- {id: half, study: s, criterion: {at_least: 1}}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="claims.yml: 'half'"):
        claims.read_entries(path, Claim.of, "id")
    path.write_text("- {id: a}\n- {id: a}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="twice"):
        claims.read_entries(path, dict, "id")


# The ledger itself


def test_every_claim_is_complete():
    assert ALL
    for entry in ALL:
        for field in ("claim", "figure", "where", "metric", "values"):
            assert getattr(entry, field).strip(), (entry.id, field)
        assert entry.claim.endswith("."), entry.id
        assert entry.metric.strip().endswith("."), entry.id
        assert entry.unit in UNITS, entry.id
        assert entry.study, entry.id


def test_every_claim_has_its_paper():
    assert {entry.paper for entry in ALL} <= set(claims.papers())


def test_every_claim_belongs_to_a_chapter_and_its_studies_exist():
    for chapter in CHAPTERS:
        studies = chapter.module.studies(chapter.module.Parameters())
        for entry in ALL:
            if entry.subject == chapter.subject:
                assert set(entry.study) <= set(studies), entry.id
    assert {entry.subject for entry in ALL} <= {chapter.subject for chapter in CHAPTERS}


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.id)
def test_every_claim_has_its_function(entry):
    assert callable(entry.function())


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.id)
def test_without_results_a_claim_is_not_testable(entry):
    assert judge(entry, {study: Results(()) for study in entry.study}).verdict == "not testable"


def test_no_verdict_is_typed_in_the_ledger():
    text = (claims.ROOT / "data" / "claims.yml").read_text(encoding="utf-8")
    assert "verdict:" not in text
