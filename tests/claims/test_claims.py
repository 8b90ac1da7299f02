"""Claims: each is complete and leads to a function, and verdicts follow from numbers alone."""

import contextlib

import pytest

from lib import ROOT
from lib.claims import entries as claims
from lib.claims.declared import Function
from lib.claims.entries import Claim, Need
from lib.claims.entry_files import WrongEntry, read_entries
from lib.claims.judge import IDENTITY, Named, judge
from lib.claims.judge import tested_items as items_of
from lib.claims.verdict import Bound
from lib.measure.statistics import UNITS, Estimate, NotTestable
from lib.runs.results import Missing, Result, Results
from lib.runs.spec import Spec
from lib.studies import CHAPTERS

ALL = list(claims.claims().values())


class Run(Spec):
    experiment = "test"


def results(*values: float) -> Results:
    found = tuple(
        Result("test", f"k{seed}", {"seed": seed}, {"accuracy": value}, {}, {}, {"device": "cpu"}) for seed, value in enumerate(values)
    )
    return Results(found)


def claim(**changes) -> Claim:
    return Claim(
        **{
            "id": "c",
            "subject": "moe",
            "paper": "p",
            "claim": "A claim.",
            "figure": "1",
            "where": "Table 1",
            "metric": "A metric.",
            "unit": "points",
            "study": ("s",),
            "values": Function("f"),
            "criterion": Bound(at_least=0.0),
            "no_effect": 0.0,
        }
        | changes
    )


@pytest.fixture
def verdict_of(monkeypatch):
    """Judge values directly: the claim's function returns them as they are."""

    def verdict(*values: float, **changes) -> str:
        monkeypatch.setattr(Claim, "function", lambda self: lambda studies: list(values))
        return judge(claim(**changes), {"s": results(*(values or (0.0,)))}).verdict

    return verdict


def test_an_undecided_outcome_says_how_many_seeds_would_decide(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [-0.05, 0.03, -0.02])
    verdict = judge(claim(), {"s": results(1.0)})
    assert verdict.verdict == "undecided" and "38 seeds would decide" in verdict.text and verdict.seeds == 38
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: {"a": [-0.05, 0.03, -0.02], "b": [-0.010, 0.010, 0.0001]})
    parts = judge(claim(), {"s": results(1.0)})
    assert "38 seeds" in parts.text and parts.seeds == 38, "that of the part that decides, the first of equals"
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [-0.010, 0.010, 0.0001])
    never = judge(claim(), {"s": results(1.0)})
    assert "No number of seeds" in never.text and never.seeds is None
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [0.01, 0.02, 0.015])
    assert judge(claim(), {"s": results(1.0)}).seeds is None


def test_the_edge_of_the_interval_decides(verdict_of):
    assert verdict_of(0.02, 0.03, 0.025) == "reproduced"
    assert verdict_of(0.05, -0.01, 0.02) == "undecided"
    assert verdict_of(-0.02, -0.03, -0.025) == "not seen"
    assert verdict_of(0.02, 0.03, 0.025, criterion=Bound(at_least=0.1)) == "weaker"
    assert verdict_of() == "not testable"


def test_parts_are_judged_one_by_one(monkeypatch):
    parts = {"name": [0.36, 0.37, 0.36], "sst2": [-0.08, -0.09, -0.085]}
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: parts)
    verdict = judge(claim(), {"s": results(1.0)})
    assert verdict.verdict == "not seen" and "The parts disagree" in verdict.text
    assert {name: part.verdict for name, part in verdict.parts.items()} == {"name": "reproduced", "sst2": "not seen"}
    assert verdict.measured == "name +36.33 ± 1.43 points (n=3); sst2 -8.50 ± 1.24 points (n=3)"
    one = judge(claim(parts="any"), {"s": results(1.0)})
    assert one.verdict == "reproduced" and "the most favourable one decides" in one.text and one.estimate == verdict.parts["name"].estimate
    assert "at least 0 points in one of its parts" in claim(parts="any").rule and "its parts" not in claim().rule
    parts["sst2"] = NotTestable("counting words is as good")
    verdict = judge(claim(), {"s": results(1.0)})
    assert verdict.verdict == "reproduced" and "counting words is as good" in verdict.text.lower()
    parts["name"] = NotTestable("too")
    assert judge(claim(), {"s": results(1.0)}).verdict == "not testable"


def test_two_variants_of_one_data_set_are_not_compared(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [0.01, 0.02, 0.015])
    made = [
        Result("t", variant, {}, {}, {}, {}, {"device": "cpu", "data": {"name": name, "variant": variant}})
        for name, variant in (("cifar10", "JPEG re-encoding"), ("cifar10", "original pixels"), ("mnist", "official"))
    ]
    verdict = judge(claim(study=("s", "t")), {"s": Results((made[0],)), "t": Results((made[1],))})
    assert verdict.verdict == "not testable" and "JPEG re-encoding; original pixels" in verdict.text
    assert judge(claim(study=("s", "t")), {"s": Results((made[0],)), "t": Results((made[2],))}).verdict == "reproduced"


def test_each_part_has_its_own_number_of_items(monkeypatch):
    studies = {
        "s": Results(
            tuple(
                Result("t", name, {}, {}, {}, {}, {"device": "cpu", "data": {"name": name, "test": test}})
                for name, test in (("name", 1000), ("sst2", 872))
            )
        )
    }
    assert [items_of(claim(items="test"), studies, part) for part in ("swapped names", "SST-2", None, "another")] == [1000, 872, 872, 872]
    assert items_of(claim(items=None), studies, "swapped names") is None


def test_a_need_that_is_not_met_comes_before_any_verdict(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [0.01, 0.02, 0.015])

    def needed(studies, margin=None):
        """Need more than ``margin``."""
        raise NotTestable("the control did not train")

    monkeypatch.setattr(Need, "function", lambda self, subject: needed)
    found = claim(needs=(Need.of({"needed": 0.005}),))
    verdict = judge(found, {"s": results(1.0)})
    assert verdict.verdict == "not testable" and verdict.text.startswith("The control did not train.")
    assert "+1.50 ± 1.24 points" in verdict.text and verdict.mean is None and verdict.n == 0
    assert "It needs more than 0.5 points." in found.rule
    assert judge(claim(needs=()), {"s": results(1.0)}).verdict == "reproduced"


def test_an_interval_may_come_from_the_claims_function(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: Estimate(0.02, 0.01, 0.03, 3))
    assert judge(claim(), {"s": results(1.0)}).verdict == "reproduced"


def test_an_identity_is_no_verdict(monkeypatch):
    monkeypatch.setattr(Claim, "function", lambda self: lambda studies: [1.0, 1.0])
    found = claim(unit="number", identity="It is so by definition", criterion=Bound(at_most=1.0))
    verdict = judge(found, {"s": results(1.0)})
    assert verdict.verdict == IDENTITY and verdict.marked == "≡ holds by construction" and verdict.text.endswith("It does.")
    broken = judge(claim(unit="number", identity="It is so", criterion=Bound(at_most=0.5)), {"s": results(1.0)})
    assert broken.verdict == "not seen" and "fault of the code" in broken.text


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
    assert verdict.low == pytest.approx(0.02 - 4.302653 * 0.01 / 3**0.5)
    assert verdict.measured == "+2.00 ± 2.48 points (n=3)" and verdict.marked == "? undecided"


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


GOOD = """
- id: one
  subject: moe
  paper: p
  claim: c
  figure: f
  where: w
  metric: m
  unit: points
  study: s
  values: v
  criterion: {at_least: 1.0}
"""


@pytest.mark.parametrize(
    "change, says",
    [
        (("  metric:", "  metrik:"), "claims.yml: 'one': a claim has no field 'metrik'. Did you mean 'metric'?"),
        (("  study: s\n", ""), "claims.yml: 'one': it lacks 'study'"),
        (("points", "ponts"), "claims.yml: 'one': unit is 'ponts': use one of 'percent', 'points', 'times', 'number'"),
        (("at_least", "at_leest"), "claims.yml: 'one': criterion has no field 'at_leest'. Did you mean 'at_least'?"),
        (("{at_least: 1.0}", "much"), "claims.yml: 'one': criterion is 'much', and has the fields at_least, at_most"),
        (("1.0", '"0,5"'), "claims.yml: 'one': a criterion is a number, not '0,5'"),
        (("1.0", ".nan"), "claims.yml: 'one': a criterion is a number, not nan"),
        (("  study: s\n", "  study: s\n  parts: some\n"), "claims.yml: 'one': parts is 'some': use one of 'all', 'any'"),
        (("  study: s\n", "  study: s\n  needs: flat\n"), "claims.yml: 'one': needs are a list"),
        (("  study: s\n", "  study: s\n  needs: [{flat: a lot}]\n"), "claims.yml: 'one': the margin of flat is a number, not 'a lot'"),
        (("- id:", "- idd:"), "claims.yml: entry 1 has no 'id', which is a text"),
        ((GOOD, GOOD + GOOD), "claims.yml: 'one' is there twice"),
        (("  claim:", "  id: two\n  claim:"), "claims.yml: entry 1 has 'id' twice, again in line 5"),
        (("at_least: 1.0", "at_least: 1.0, at_least: 2.0"), "claims.yml: entry 1 has 'at_least' twice, again in line 12"),
        ((GOOD, GOOD + "- words\n"), "claims.yml: entry 2 has no fields: 'words'"),
        ((GOOD, GOOD + "\t- x: [1\n"), "claims.yml: line 13: found character '\\t' that cannot start any token"),
        ((GOOD, "a: 1"), "claims.yml is not a list of entries"),
        ((GOOD, ""), "claims.yml is not a list of entries"),
    ],
)
def test_a_broken_entry_is_named_in_one_line(tmp_path, change, says):
    path = tmp_path / "claims.yml"
    path.write_text(GOOD, encoding="utf-8")
    assert list(read_entries(path, Claim.of, "id")) == ["one"]
    path.write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(WrongEntry) as error:
        read_entries(path, Claim.of, "id")
    assert str(error.value) == says


def test_names_that_a_claim_uses_are_there_or_said():
    some = next(each for each in ALL if each.needs)
    for broken, says in [
        (claim(subject="growth", values=Function("nothing_like_it")).function, "claims.py has no function 'nothing_like_it'."),
        (lambda: Need(some.needs[0].name + "s").function(some.subject), f"needs.py has no function '{some.needs[0].name}s'. Did you mean"),
        (lambda: claims.paper_of(claim(paper=some.paper + "s")), f"papers.yml has no paper '{some.paper}s'. Did you mean"),
        (lambda: claims.Paper.of({"key": some.paper + "s"}), "references.bib has no such entry. Did you mean"),
        (lambda: claims.Paper.of({"key": some.paper, "sumary": ""}), "has no field 'sumary'. Did you mean 'summary'"),
    ]:
        with pytest.raises(ValueError, match=says):
            broken()


# The ledger itself


def test_every_claim_is_complete():
    assert ALL
    for entry in ALL:
        for field in ("claim", "figure", "where", "metric", "values"):
            assert str(getattr(entry, field)).strip(), (entry.id, field)
        assert entry.claim.endswith("."), entry.id
        assert entry.metric.strip().endswith("."), entry.id
        assert entry.unit in UNITS, entry.id
        assert entry.study, entry.id


def test_what_holds_by_construction_is_counted_or_computed():
    """What was trained can fail without a fault of the code: it is a claim."""
    identities = [entry for entry in ALL if entry.identity]
    assert identities and all(entry.exact for entry in identities)


def test_every_need_has_its_function_which_says_what_it_needs():
    for entry in ALL:
        for need in entry.needs:
            assert callable(need.function(entry.subject)), entry.id
            assert need.function(entry.subject).__doc__.startswith("Need "), (entry.id, need.name)
            assert need.spelled(entry.subject), entry.id


@pytest.mark.parametrize("entry", [entry for entry in ALL if entry.needs], ids=lambda entry: entry.id)
def test_needs_read_the_studies_that_their_claim_names(entry):
    named = Named(entry, {study: Results(()) for study in entry.study})
    for need in entry.needs:
        with contextlib.suppress(NotTestable):
            need.check(entry.subject, named)


def test_a_need_of_a_study_that_the_claim_does_not_name_says_what_to_add(verdict_of, monkeypatch):
    monkeypatch.setattr(Need, "function", lambda self, subject: lambda studies: studies["alone"])
    with pytest.raises(KeyError, match="claim c reads study 'alone', by its values or its needs: add it to the claim's `study`"):
        verdict_of(0.1, needs=(Need("has_learnt"),))


def test_claims_of_differences_of_accuracies_know_how_many_items_were_tested():
    for entry in ALL:
        assert (entry.items is not None) == (entry.unit == "points"), entry.id


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
    text = (ROOT / "data" / "claims.yml").read_text(encoding="utf-8")
    assert "verdict:" not in text


def test_what_only_an_abstract_says_is_said_to_be(monkeypatch):
    from click.testing import CliRunner

    from lib.__main__ import main

    wheres = {claim.id: (claim.where, claim.by_abstract) for claim in claims.claims().values()}
    assert wheres["hash-switch"] == ("abstract", True) and not wheres["switch-quality"][1] and not wheres["skeptical-plain"][1]
    assert 20 < sum(only for _, only in wheres.values()) < len(wheres) / 2
    monkeypatch.setattr(
        "lib.cli.claims.of_chapter",
        lambda *words: [type("Entry", (), {"claim": claims.find("hash-switch"), "edition": None, "own": None})()],
    )
    told = CliRunner().invoke(main, ["claims", "hash-switch", "--scale", "smoke"]).output
    assert "This is what the abstract says; we do not have the tables behind it" in told
