"""The ledger judges what is stored, shows every claim once, and can be taken along."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from lib.__main__ import main
from lib.book import ledger, ledger_page
from lib.book.ledger import NOT_RUN, entries, is_identity, judged, seeds_needed, tally
from lib.book.notebooks import Project
from lib.claims.entries import claims, papers
from lib.claims.verdict import Bound
from lib.cli.claims import most_run
from lib.measure.statistics import UNITS, Estimate
from lib.runs.replay import Edition
from lib.runs.results import Outcome, Result, write_result
from lib.runs.store import Store
from lib.studies import CHAPTERS, chapter

MOE = CHAPTERS[0]


@pytest.fixture(scope="module")
def committed():
    """The book's own ledger: its committed results, and nothing of anyone's own."""
    return entries("smoke", Store(Store.default().reference, Store.default().reference / "none"))


def test_every_claim_stands_once_in_the_order_of_the_chapters(committed):
    assert [entry.claim.id for entry in committed] == [
        claim.id for chapter in CHAPTERS for claim in claims().values() if claim.subject == chapter.subject
    ]
    assert len(committed) == len(claims())


def test_every_claim_is_shown_in_a_section_of_its_chapter(committed):
    for entry in committed:
        assert entry.section and entry.section.startswith(f"sec-{entry.chapter.subject}-"), entry.claim.id


def test_verdicts_are_those_of_the_chapters(committed):
    edition = Edition(MOE.module, Store.default())
    for entry in committed:
        if entry.chapter == MOE and entry.edition:
            from lib.claims.judge import judge

            assert judge(entry.claim, edition.results(entry.claim.study)) == entry.edition
    assert sum(tally(committed).values()) == len(judged(committed)) == len(committed) - sum(map(is_identity, committed))
    assert any(map(is_identity, committed))
    assert any(entry.edition for entry in committed) and not any(entry.own for entry in committed)


def test_an_empty_store_knows_no_verdict(tmp_path):
    found = entries("smoke", Store(tmp_path / "reference", tmp_path / "own"))
    assert tally(found)[NOT_RUN] == len(judged(found)) and len(found) == len(claims())
    assert all(entry.best is None and ledger_page.row_of(entry)[3:] == ["–", "–"] for entry in found)


def test_own_results_stand_beside_the_edition(tmp_path):
    """One study of one claim, with made-up times: the smoke run's verdict is this run's, and the edition stays empty."""
    claim = claims()["switch-speed"]
    store = Store(tmp_path / "reference", tmp_path / "own")
    specs = [spec for study in claim.study for spec in MOE.module.studies(MOE.module.Parameters(scale="smoke"))[study]]
    reference = Store.default()
    edition = Edition(MOE.module, reference).results(claim.study)
    source = next(iter(edition[claim.study[0]]))
    for spec in specs:
        outcome = Outcome(source.metrics, source.curves, source.arrays, {"name": "digits"})
        write_result(store.path(spec), Result.of(spec, outcome, {"device": "a test", "torch": "2", "commit": None, "dirty": False}))
    entry = next(e for e in ledger.of_chapter(MOE, "smoke", store, Project()) if e.claim == claim)
    assert entry.edition is None and entry.own is not None and entry.best is entry.own


def test_the_table_holds_each_claim_and_its_numbers(committed):
    text = ledger_page.ledger(committed)
    assert text.count("[]{#claim-") == len(committed)
    packed = json.loads(re.search(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)[1])
    assert [row[packed["columns"].index("claim")] for row in packed["rows"]] == [entry.claim.id for entry in committed]
    with pytest.raises(ValueError, match="no claim"):
        ledger_page.ledger([])


def test_a_text_cannot_end_the_script(committed):
    entry = replace(committed[0], devices="</script><b>")
    text = ledger_page.ledger([entry])
    assert text.count("</script>") == 1
    assert json.loads(re.search(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)[1])["rows"][0].count("</script><b>") == 1


@pytest.mark.parametrize("key", list(papers()))
def test_a_paper_names_what_is_there(key, committed):
    paper = papers()[key]
    text = ledger_page.paper_section(paper, committed)
    assert paper.title in text and f"[@{key}]" in text
    assert text.count("#claim-") == sum(claim.paper == key for claim in claims().values())
    assert all((Project().root / path).exists() for path in re.findall(r"\]\(\.\./(lib/[^)]+)\)", text))


def test_a_name_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="lib.moe.balance.nothing"):
        ledger_page.implemented("lib.moe.balance.nothing")


def test_the_command_line_writes_the_ledger(monkeypatch, committed):
    monkeypatch.setattr("lib.cli.claims.entries", lambda scale: committed)
    told = CliRunner().invoke(main, ["claims", "--as", "csv"])
    rows = list(csv.DictReader(io.StringIO(told.output)))
    assert told.exit_code == 0 and [row["claim"] for row in rows] == [entry.claim.id for entry in committed]
    listed = json.loads(CliRunner().invoke(main, ["claims", "--as", "json"]).output)
    assert {row["edition_verdict"] for row in listed} == {entry.edition.verdict if entry.edition else None for entry in committed}
    wrong = CliRunner().invoke(main, ["claims", "--scale", "lptop"])
    assert wrong.exit_code == 2 and "laptop" in wrong.output


def test_the_command_line_sums_up_or_shows_a_chapter_or_a_verdict_with_reasons(monkeypatch, committed):
    def told(*words, status=0):
        answer = CliRunner().invoke(main, ["claims", *words])
        assert answer.exit_code == status, answer.output
        return answer.output

    monkeypatch.setattr("lib.cli.claims.entries", lambda scale: committed)
    summed = told()
    assert len(summed.splitlines()) < 20 and all(entry.chapter.slug in summed for entry in committed)
    one = told("privacy")
    mine = [entry for entry in committed if entry.chapter.subject == "privacy"]
    assert all(entry.claim.id in one and entry.best.text in one for entry in mine) and "switch-quality" not in one
    verdict = committed[0].best.verdict
    chosen = json.loads(told("--verdict", verdict, "--as", "json"))
    assert [row["claim"] for row in chosen] == [entry.claim.id for entry in committed if entry.best and entry.best.verdict == verdict]
    assert "no verdict 'maybe'; there are" in told("--verdict", "maybe", status=2)


def test_own_results_are_judged_at_the_scale_that_was_run(tmp_path):
    store = Store(tmp_path / "reference", tmp_path / "own")
    assert most_run(store) == "laptop"
    privacy = chapter("privacy").module
    for spec in privacy.studies(privacy.Parameters(scale="smoke"))["baseline"]:
        store.path(spec).parent.mkdir(parents=True, exist_ok=True)
        store.path(spec).touch()
    assert most_run(store) == "smoke"


def test_criteria_are_spelled_out(committed):
    entry = replace(committed[0], claim=replace(committed[0].claim, unit="points", criterion=Bound(at_least=0.01)))
    assert entry.row()["criterion"] == "at least 1 point"


def test_numbers_of_the_export_are_in_the_unit_beside_them(committed):
    """Points are points and not fractions; and what is not testable has no numbers at all."""
    for entry in committed:
        verdict, row = entry.edition, entry.row()
        if verdict is None or verdict.mean is None:
            assert row["edition_mean"] is row["edition_low"] is None
            continue
        factor = 100 if row["unit"] in ("points", "percent") else 1
        assert row["edition_mean"] == pytest.approx(factor * verdict.estimate.mean, rel=1e-6)
        shown = verdict.measured if not verdict.parts else UNITS[row["unit"]](verdict.estimate)
        mean = float(re.match(r"\(?([+-]?[\d.]+)", shown)[1])
        if power := re.search(r"× 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", shown):  # as small numbers are written
            mean *= 10.0 ** int(power[1].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
        assert mean == pytest.approx(row["edition_mean"], rel=0.06, abs=0.006 if not power else 0), entry.claim.id


def test_the_distance_to_the_criterion_is_in_half_widths(committed):
    claim = replace(committed[0].claim, unit="points", criterion=Bound(at_most=0.02))
    verdict = replace(committed[0].edition, claim=claim, verdict="reproduced", estimate=Estimate(0.01, 0.005, 0.015, 3))
    assert ledger.distance(verdict) == pytest.approx(2), "the interval ends half way to the criterion"
    assert ledger.distance(replace(verdict, claim=replace(claim, criterion=Bound(at_least=0.02)))) == pytest.approx(-2)
    assert ledger.distance(replace(verdict, estimate=Estimate(0.01, None, None, 1))) is None and ledger.distance(None) is None
    for entry in committed:  # intervals are not always symmetrical, so about one decides
        if entry.edition and (found := ledger.distance(entry.edition)) is not None and not is_identity(entry):
            assert entry.edition.verdict == "reproduced" or found < 1.1, entry.claim.id
            assert entry.edition.verdict != "reproduced" or found > 0.9, entry.claim.id


def test_the_page_leads_from_a_claim_to_what_reads_it(committed):
    packed = json.loads(re.search(r"<script[^>]*>(.*?)</script>", ledger_page.ledger(committed), re.DOTALL)[1])
    for row in packed["rows"]:
        found = dict(zip(packed["columns"], row))
        code = (Project().root / found["code"]).read_text(encoding="utf-8")
        said = found["values"].partition("(")[0] if found["code"].endswith(".py") else f"id: {found['claim']}\n"
        assert said in code and found["rule"].startswith("Reproduced if"), found["claim"]


def test_an_interval_with_the_criterion_in_it_is_undecided(committed):
    """And nothing else is: no verdict leans on a mean."""
    for entry in committed:
        for verdict in (entry.edition, *(entry.edition.parts.values() if entry.edition else ())):
            if verdict is None or verdict.decided is None or is_identity(entry):
                continue
            low, high, criterion = verdict.low, verdict.high, entry.claim.criterion
            inside = low is None or criterion.met_by(low) != criterion.met_by(high)
            assert inside == (verdict.verdict == "undecided"), entry.claim.id
            assert (verdict.verdict == "reproduced") == (not inside and criterion.met_by(low)), entry.claim.id


def test_everything_that_is_not_testable_has_its_reason(committed):
    for entry in committed:
        if entry.edition and entry.edition.verdict == "not testable":
            assert len(entry.edition.text) > 20 and entry.edition.text.rstrip()[-1] in ".)", entry.claim.id


def test_how_many_undecided_claims_more_seeds_would_decide(committed):
    undecided = [entry for entry in judged(committed) if entry.best.verdict == "undecided"]
    never = [entry for entry in undecided if "No number of seeds" in entry.best.text.split("SST-2")[0]]
    assert len(undecided) > len(never) > 0
    told = seeds_needed(committed)
    assert (
        told.startswith(f": for {len(undecided) - len(never)} of them the verdict says")
        and f", for {len(never)} no number of seeds" in told
    )
    assert seeds_needed(never).startswith(f": for {len(never)} no number") and seeds_needed([]) == ""
