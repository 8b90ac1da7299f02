"""The first page shows what the ledger's page shows, which is not judged twice."""

import io
import json
import re
from dataclasses import replace

import nbformat
import pytest
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_notebook, new_output
from rich.console import Console

from conftest import ROOT
from lib.book import edition
from lib.book.front import headlines, social
from lib.book.front.headlines import findings, recalled, write_headlines
from lib.book.front.mosaic import ledger_address, mosaic
from lib.book.ledger import by_chapter, entries, judged, tally
from lib.book.ledger_page import ledger
from lib.book.notebooks import Project
from lib.book.notes import typeset
from lib.claims.entries import claims
from lib.data.tasks import STORY_TASKS
from lib.data.titles import TITLES
from lib.runs.store import Store
from lib.studies import CHAPTERS

LEDGER = CHAPTERS[-1]


@pytest.fixture(scope="module")
def found():
    return entries("cpu", Store(ROOT / "data" / "results", ROOT / "none"), Project())


def executed(folder, shown, scale="cpu"):
    """A notebook whose last output is the ledger."""
    path = folder / "chapters" / f"{LEDGER.slug}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_code_cell("1"), new_code_cell("ledger", outputs=[new_output("display_data", {"text/markdown": ledger(shown)})])]
    nbformat.write(new_notebook(metadata={"book": {"scale": scale}}, cells=cells), path)
    return path


def test_an_executed_ledger_gives_the_same_mosaic_and_picture(tmp_path, found, monkeypatch):
    path = executed(tmp_path, found)
    again = recalled(path, "cpu", CHAPTERS)
    assert [one.claim for one in again] == [entry.claim for entry in found] and tally(again) == tally(found)
    assert mosaic(again, ledger_address(CHAPTERS)) == mosaic(found, ledger_address(CHAPTERS))
    assert social.picture(again) == social.picture(found) and len(judged(again)) == len(judged(found))

    monkeypatch.setattr(headlines, "of_chapter", lambda *words: pytest.fail("it is judged again"))
    monkeypatch.setattr(headlines, "table", lambda root, shown: "\n")
    monkeypatch.setattr(headlines, "in_short", lambda root, shown: "\n")
    assert write_headlines(tmp_path, Project(), "cpu", executed=CHAPTERS) == again
    assert (tmp_path / "_findings.md").exists()
    assert (tmp_path / "_mosaic.md").read_text() == mosaic(found, ledger_address(CHAPTERS))


def test_a_claim_without_results_is_recalled_as_such(tmp_path, found):
    changed = [
        replace(entry, edition=None, own=None) if number % 3 else replace(entry, edition=None, own=entry.edition)
        for number, entry in enumerate(found)
    ]
    again = recalled(executed(tmp_path, changed), "cpu", CHAPTERS)
    assert mosaic(again, "l.html") == mosaic(changed, "l.html")


def test_what_is_no_ledger_of_these_claims_is_not_taken_over(tmp_path, found, monkeypatch):
    path = executed(tmp_path, found)
    assert recalled(path, "laptop", CHAPTERS) is None, "executed at another scale"
    assert recalled(executed(tmp_path, found[:-1]), "cpu", CHAPTERS) is None, "a claim is new"
    content = json.loads(path.read_text())
    content["cells"][1]["outputs"] = []
    path.write_text(json.dumps(content))
    assert recalled(path, "cpu", CHAPTERS) is None, "it shows none"
    assert recalled(tmp_path / "nothing.ipynb", "cpu", CHAPTERS) is None

    asked = []
    monkeypatch.setattr(headlines, "table", lambda root, shown: "\n")
    monkeypatch.setattr(headlines, "in_short", lambda root, shown: "\n")
    monkeypatch.setattr(headlines, "of_chapter", lambda chapter, *words: asked.append(chapter) or [])
    for now in ((), CHAPTERS[:-1], CHAPTERS):  # nothing was executed, not the ledger, and a ledger that shows nothing
        asked.clear()
        write_headlines(tmp_path, Project(), "cpu", executed=now)
        assert asked == list(CHAPTERS)


def test_every_claim_has_its_chapter_before_the_ledger():
    assert LEDGER.summarises and {claim.subject for claim in claims().values()} <= {chapter.subject for chapter in CHAPTERS[:-1]}


def test_two_editions_at_once_are_refused(tmp_path, capsys):
    (tmp_path / "chapters").mkdir()
    project = Project(tmp_path, ())
    folder = project.build("edition")
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert edition.make_edition(project=project, store=Store(tmp_path, tmp_path), console=Console(file=io.StringIO())) == 1
    assert f"another edition is being made in {folder}" in capsys.readouterr().err


def test_the_findings_at_the_top_are_of_the_chapters_that_decide_most(tmp_path, found, monkeypatch):
    decided = {
        f"chapters/{chapter.slug}.ipynb": sum(entry.best.verdict in ("reproduced", "weaker", "not seen") for entry in judged(own))
        for chapter, own in by_chapter(found).items()
    }
    told = {name: (f"Title {index}", f"Of {index}.5 % it keeps\n41.2 ± 0.3 % (n=3); the rest.") for index, name in enumerate(decided)}
    told |= {f"chapters/{LEDGER.slug}.ipynb": ("All", "Of all.")}
    monkeypatch.setattr(headlines, "findings", lambda root: told)
    lines = [line for line in headlines.in_short(tmp_path, found).splitlines() if line.startswith("- ")]
    shown = [re.fullmatch(r"- Of \d+\.5\s% it keeps 41\.2\s±\s0\.3\s%\. \[Title \d+\]\((.+)\)", line)[1] for line in lines]
    assert len(shown) == 3 == len(set(shown)) and LEDGER.slug not in "".join(shown)
    assert [decided[name] for name in shown] == sorted(decided.values(), reverse=True)[:3]
    assert headlines.in_short(tmp_path, []) == "\n"


@pytest.mark.parametrize(
    ("finding", "first"),
    [
        ("It reaches 84.9 ± 0.3 % if it can; else 3 %.", "It reaches 84.9 ± 0.3 % if it can."),
        ("It reaches 84.9 % (n=3). Another does not.", "It reaches 84.9 %."),
        ("Growth did not pay: it saved -13.6 %", "Growth did not pay: it saved -13.6 %."),
    ],
)
def test_a_finding_in_short_is_its_first_statement(finding, first):
    assert headlines.statement(finding) == typeset(first)


def test_what_was_found_names_data_and_tasks_by_their_titles():
    """``cifar10`` is a setting, and *name* a task: a reader of one sentence knows neither."""
    settings = [name for name, title in TITLES.items() if title != name]
    told = {name: finding for name, (_, finding) in findings(ROOT).items()}
    assert len(told) > 3
    for chapter, finding in told.items():
        wrong = [name for name in settings if re.search(rf"\*{name}\*" if name in STORY_TASKS else rf"\b{name}\b", finding)]
        assert not wrong, f"{chapter} says {', '.join(wrong)}: {finding}"
