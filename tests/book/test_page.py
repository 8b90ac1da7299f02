"""What a chapter's cells call: parameters are checked, results memoised, everything shown is Markdown or plotly."""

import json
import re
import types
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from lib import ROOT
from lib.book import notes, page
from lib.book.docstrings import headline
from lib.claims import judge as claims
from lib.claims.entries import Claim
from lib.claims.origin import covering, provenance_line, seeds
from lib.claims.verdict import Bound
from lib.measure.statistics import number, paired_differences, percent
from lib.runs.results import Missing, Outcome, Result, Results, write_result
from lib.runs.scales import PLANNED
from lib.runs.spec import Spec
from lib.runs.store import Unavailable
from lib.studies.base.parameters import ChapterParameters

RUNS: list[int] = []


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    experts: int | None = None


@dataclass(frozen=True, kw_only=True)
class Toy(Spec):
    """Accuracy by seed and size, without training."""

    experiment = "toy"
    size: int = 1
    absent: bool = False

    def run(self, session) -> Outcome:
        if self.absent:
            raise Unavailable("the data set is not here")
        RUNS.append(self.seed)
        return Outcome({"accuracy": 0.5 + 0.01 * self.seed + 0.1 * self.size}, data={"name": "digits", "variant": "embedded"})


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    size = {"smoke": 1, "laptop": 2, "cpu": 3, "gpu": 4}[parameters.scale]
    specs = [Toy(seed=seed, size=size) for seed in range(parameters.seeds or 3)]
    if parameters.experts == 1:
        return {"main": specs}
    return {"main": specs, "again": specs[:2], "absent": [Toy(absent=True)]}


@pytest.fixture
def shown(monkeypatch, tmp_path) -> list:
    """A chapter with a toy experiment; what it displays is collected here."""
    out = []
    module = types.SimpleNamespace(Parameters=Parameters, studies=studies)
    monkeypatch.setattr(page, "chapter", lambda name: types.SimpleNamespace(module=module))
    monkeypatch.setattr(page, "display", lambda item, raw=False, metadata=None: out.append(item if raw else item.data))
    monkeypatch.setattr(
        page.Store, "default", classmethod(lambda cls, own=None: cls(tmp_path / "reference", Path(own or tmp_path / "own")))
    )
    RUNS.clear()
    return out


def put_reference(tmp_path, specs) -> None:
    for spec in specs:
        outcome = Outcome({"accuracy": 0.9}, data={"name": "cifar10", "variant": "jpeg"})
        result = Result.of(spec, outcome, {"device": "NVIDIA H200", "torch": "2.11.0", "commit": "a" * 40, "dirty": False})
        write_result(tmp_path / "reference" / spec.experiment / f"{spec.key}.json", result)


# Opening a chapter


def test_parameters_are_taken_from_the_notebook(shown):
    run = page.open_chapter(
        "toy",
        {
            "scale": "smoke",
            "experts": 8,
            "seeds": None,
            "pd": pd,
            "_": 1,
            "In": [],
            "Out": {},
            "PAPERMILL_INPUT_PATH": "a.ipynb",
            "PAPERMILL_OUTPUT_PATH": "b.ipynb",
            "Path": ROOT,
        },
    )
    assert run.parameters == Parameters(scale="smoke", experts=8)
    assert "Scale **smoke**" in shown[0] and "torch" in shown[0]


@pytest.mark.parametrize(
    "extra, error, says",
    [
        ({"expert": 8}, ValueError, "Did you mean 'experts'"),
        ({"sede": [1, 2]}, ValueError, "unknown parameter 'sede'"),
        ({"experts": "8"}, TypeError, "experts"),
        ({"scale": "laptp"}, ValueError, "Did you mean 'laptop'"),
    ],
)
def test_a_wrong_parameter_is_an_error(shown, extra, error, says):
    with pytest.raises(error, match=says):
        page.open_chapter("toy", {"scale": "smoke"} | extra)


def test_opening_again_passes_over_names_of_later_cells(shown):
    names = {"scale": "smoke"}
    names["run"] = page.open_chapter("toy", names)
    names |= {"best": 0.93, "experts": 4}
    assert page.open_chapter("toy", names).parameters.experts == 4
    names["experts"] = "four"
    with pytest.raises(TypeError):
        page.open_chapter("toy", names)


# Results


def test_results_are_run_once_and_memoised(shown):
    run = page.ChapterRun("toy", Parameters(scale="smoke"))
    first = run.results("main")
    assert RUNS == [0, 1, 2] and run.results("main") is first
    assert len(run.results("again")) == 2 and RUNS == [0, 1, 2]
    with pytest.raises(ValueError, match="there are main"):
        run.results("mian")


def test_a_study_that_the_parameters_leave_out_is_empty(shown):
    assert len(page.ChapterRun("toy", Parameters(scale="smoke", experts=1)).results("again")) == 0


def test_recompute_runs_each_spec_once_in_a_run(shown):
    page.ChapterRun("toy", Parameters(scale="smoke")).results("main")
    run = page.ChapterRun("toy", Parameters(scale="smoke", recompute=True))
    run.results("again"), run.results("main")
    assert sorted(RUNS) == [0, 0, 1, 1, 2, 2]


def test_several_processes_do_what_is_lacking(shown, monkeypatch, tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Wide(Parameters):
        gpus: int = 2
        output: str | None = None

    launched = []
    monkeypatch.setattr(page, "run_parallel", lambda *words: launched.append(words))
    parameters = Wide(scale="smoke", output=str(tmp_path / "mine"))
    run = page.ChapterRun("toy", parameters)
    assert len(run.results("main")) == 0 and RUNS == [] and "2 processes" in run.results("main").missing[0].reason
    assert launched == [("toy", parameters, 2, "--study=main")]
    page.ChapterRun("toy", replace(parameters, gpus=1)).results("main")
    assert len(list((tmp_path / "mine" / "results" / "toy").glob("*.json"))) == 3
    page.ChapterRun("toy", parameters).results("main")
    assert len(launched) == 1, "nothing was lacking"


def test_reference_takes_the_best_complete_scale(shown, tmp_path):
    run = page.ChapterRun("toy", Parameters(scale="smoke"))
    assert len(run.reference("main")) == 0 and len(run.reference("main").missing) == 3
    put_reference(tmp_path, studies(Parameters(scale="cpu"))["main"])
    put_reference(tmp_path, studies(Parameters(scale="gpu"))["main"][:2])
    assert {r.spec["size"] for r in run.reference("main")} == {3}
    put_reference(tmp_path, studies(Parameters(scale="gpu"))["main"])
    assert {r.spec["size"] for r in run.reference("main")} == {4}
    assert RUNS == []


def test_missing_results_are_listed_by_name_and_reason(shown):
    run = page.ChapterRun("toy", Parameters(scale="smoke"))
    page.missing(run.results("main"))
    assert shown == []
    page.missing(run.results("absent"))
    assert shown[0].startswith(f"{notes.FOLDED}1 of 1 results, ")
    assert "the data set is not here" in shown[0] and "toy absent=True" in shown[0]


def test_what_was_planned_is_said_in_one_line_and_what_its_names_share_once(shown):
    lacking = tuple(Missing(Toy(size=size, seed=seed), PLANNED) for size in (3, 4) for seed in (1, 2))
    page.missing(Results((), lacking))
    line, _, names = shown[0].partition("</summary>")
    assert line == f"{notes.FOLDED}4 of 4 results were not run at this scale."
    assert "All of them: `toy`" in names
    listed = re.findall("^- `(.*)`$", names, flags=re.MULTILINE)
    assert [f"toy {one}" for one in listed] == [absent.spec.label for absent in lacking]
    assert (
        page.told_apart(["run widths=[8, 16] seed=1", "run widths=[8, 16]"])
        == "All of them: `run widths=[8, 16]`\n\n- `seed=1`\n- nothing else"
    )


# Claims


@pytest.fixture
def toy_claim(monkeypatch):
    entry = Claim(
        id="toy-better",
        subject="toy",
        paper="fedus2022switch",
        claim="It is | better.",
        figure="88 %",
        where="Table 1",
        metric="Accuracy.",
        unit="percent",
        study=("main",),
        values="f",
        criterion=Bound(at_least=0.7),
    )
    monkeypatch.setattr(page, "find", lambda claim_id: entry)
    monkeypatch.setattr(Claim, "function", lambda self: lambda by: [r.metrics["accuracy"] for r in by["main"]])


def chip(verdict, mark):
    return f'<span class="verdict {verdict.replace(" ", "-")}">[{mark} {verdict}]({page.LEDGER}#claim-toy-better)</span>'


def test_claims_stand_beside_paper_reference_and_this_run(shown, tmp_path, toy_claim):
    put_reference(tmp_path, studies(Parameters(scale="gpu"))["main"])
    page.ChapterRun("toy", Parameters(scale="smoke")).claims("toy-better")
    row = shown[0].splitlines()[2]
    assert [cell.strip() for cell in row.replace("\\|", "/").split("|")[1:-1]] == [
        "It is / better. [@fedus2022switch]",
        "88 % (Table 1)",
        chip("undecided", "?") + " 90.0 % (n=3)<br><small>All 3 runs gave the same value: without a spread there is no interval.</small>",
        chip("not seen", "○") + " 61.0 ± 2.5 % (n=3)<br><small>None of the interval is at least 70 %.</small>",
    ]
    assert shown[0].splitlines()[0].count("(NVIDIA H200)") == 1 and "This run" in shown[0]
    assert "Reproduced if at least 70 %" in shown[1] and "<details>" in shown[1]


def test_a_claim_without_a_reference_has_a_dash_there_and_without_results_its_reason(shown, toy_claim, monkeypatch):
    page.ChapterRun("toy", Parameters(scale="smoke")).claims("toy-better")
    assert f"| – | {chip('not seen', '○')}" in shown[0]
    monkeypatch.setattr("lib.studies.base.parameters.cannot_run", lambda scale: "there is no GPU")
    page.ChapterRun("toy", Parameters(scale="gpu")).claims("toy-better")
    assert f"{chip('not testable', '–')}<br><small>Nothing of it was run yet: no result of main (there is no GPU).</small>" in shown[2]


def test_prose_may_be_indented_like_the_code_around_it(shown):
    page.prose("""One line
        and its *second*.

        A paragraph.
        """)
    assert shown == ["One line\nand its *second*.\n\nA paragraph."]


def test_replaying_the_reference_is_said(shown, tmp_path, toy_claim):
    put_reference(tmp_path, studies(Parameters(scale="cpu"))["main"])
    page.ChapterRun("toy", Parameters(scale="cpu")).claims("toy-better")
    assert "What we measured" in shown[0] and "This run" not in shown[0] and RUNS == []


# Source


def test_source_is_the_librarys_own_with_a_link_and_a_line(shown):
    page.source(claims.judge, Results, page.finding)
    assert shown[0].startswith("<details>\n<summary><code>lib.claims.judge.judge</code>, ") and " lines" in shown[0].split("</summary>")[0]
    assert shown[2].startswith("<details open>\n<summary><code>lib.book.page.finding</code>, 3 lines: Show what the chapter found")
    line = next(i for i, text in enumerate((ROOT / "lib/claims/judge.py").read_text().splitlines(), 1) if text.startswith("def judge("))
    assert f"[lib/claims/judge.py](../lib/claims/judge.py), line {line}" in shown[0]
    assert "```python\ndef judge(" in shown[0] and "class Results(Sequence" in shown[1]


@pytest.mark.parametrize(
    ("doc", "told"),
    [
        (
            "A loss for :func:`lib.training.loop.fit` of ``x`` < 3.",
            "A loss for <code>lib.training.loop.fit</code> of <code>x</code> &lt; 3",
        ),
        (
            "A smaller :class:`~lib.models.vit.ViT` that\nknows :data:`EACH`.\n\nMore.",
            "A smaller <code>ViT</code> that knows <code>EACH</code>",
        ),
        ("Which `key` it is.", "Which <code>key</code> it is"),
        ("x" * 111, ""),
        (None, ""),
    ],
)
def test_titles_of_listings_show_names_as_code(doc, told):
    def listed(): ...

    listed.__doc__ = doc
    assert headline(listed) == told


def test_source_of_methods_properties_and_modules(shown):
    page.source(Results.where, claims.Verdict.marked, page)
    assert "```python\ndef where(" in shown[0] and "lib.runs.results.Results.where" in shown[0]
    assert "```python\n@property\ndef marked(" in shown[1]
    assert (
        shown[2].startswith("<details>\n")
        and "[lib/book/page.py](../lib/book/page.py)" in shown[2]
        and ", line" not in shown[2].rsplit("](", 1)[1]
    )


@pytest.mark.parametrize("thing", [len, json.dumps, 3])
def test_source_of_anything_else_is_an_error(shown, thing):
    with pytest.raises(ValueError, match="of lib"):
        page.source(thing)


# Tables and figures


def test_table_is_a_pipe_table(shown):
    frame = pd.DataFrame({"method": ["a|b", "dense"], "accuracy": [0.784, None], "n": [3, 5]})
    page.table(frame, {"accuracy": ".1%"})
    lines = shown[0].splitlines()
    assert lines[0] == "| method | accuracy | n |" and lines[2:] == ["| a\\|b | 78.4% | 3 |", "| dense | – | 5 |"]
    assert [rule.strip("-") for rule in lines[1].strip("| ").split(" | ")] == [":", ":", ":"]
    assert [rule.endswith(":") for rule in lines[1].strip("| ").split(" | ")] == [False, True, True]
    with pytest.raises(ValueError, match="acuracy"):
        page.table(frame, {"acuracy": ".1%"})


def test_a_column_that_says_nothing_is_left_out(shown):
    page.table(pd.DataFrame({"method": ["a", "b"], "device": [None, None], "n": [1, 2]}))
    assert shown[0].splitlines()[0] == "| method | n |"


def test_a_table_of_a_summary_leads_to_its_runs(shown, monkeypatch):
    run = page.ChapterRun("toy", Parameters(scale="smoke"))
    results, notes = run.results("main"), []
    monkeypatch.setattr(page, "display", lambda item, metadata=None: notes.append(metadata["book"]))
    frame = results.frame().assign(method="a")
    page.table(page.summary(frame.iloc[:2], "method", {"seed": number}).rename(columns={"seed": "its seed"}))
    page.table(pd.DataFrame({"method": ["a"]}), results=results)
    assert [sorted(note["runs"]["names"]["toy"]) for note in notes] == [sorted(frame["key"][:2]), sorted(frame["key"])]
    assert "2 results of toy" in notes[0]["provenance"]


def test_a_result_is_one_line_of_its_own(shown):
    page.conclude("A leads\n   by 1.", "", "B follows.")
    page.conclude("", "")
    assert shown == ["**Result.** A leads by 1. B follows."]


def test_summary_spells_numbers_with_their_intervals():
    frame = pd.DataFrame({"method": ["b", "b", "a"], "accuracy": [0.7, 0.72, None], "seconds": [1.0, 1.0, 2.0]})
    rows = page.summary(frame, "method", {"accuracy": percent, "seconds": number}).values.tolist()
    assert rows == [["b", "71.0 ± 12.7 % (n=2)", "1.00 ± 0.00 (n=2)"], ["a", "–", "2.00 (n=1)"]]


def test_few_commands_run_all_that_a_figure_shows():
    named = {"a": ["main", "wide"], "b": ["wide"], "c": ["other", "wide"], "d": ["other"], "e": []}
    assert covering(named) == ["other", "wide"] and covering({"a": []}) == []


def test_show_attaches_provenance_and_needs_words(shown):
    run = page.ChapterRun("toy", Parameters(scale="smoke"))
    figure = go.Figure(layout={"meta": {"alt": "Drawn from data."}})
    page.show(figure, run.results("main"))
    bundle = shown[0]["application/vnd.plotly.v1+json"]
    meta = bundle["layout"]["meta"]
    assert meta["alt"] == "Drawn from data." and "3 results of toy · seeds 0–2 · " in meta["provenance"]
    assert "digits (embedded)" in meta["provenance"] and "torch" in meta["provenance"]
    assert meta["runs"]["names"] == {"toy": sorted(r.key for r in run.results("main"))} and meta["runs"]["more"] == 0
    assert meta["runs"]["commands"] == ["python -m lib run toy --scale smoke --study main"]
    assert set(shown[0]) == {"application/vnd.plotly.v1+json", "text/plain"} and bundle["config"]["showSendToCloud"] is False
    assert "provenance" not in figure.layout.meta, "the author's figure is left as it was"
    with pytest.raises(ValueError, match="alt="):
        page.show(go.Figure(), run.results("main"))


def test_provenance_names_uncommitted_code_and_mixed_devices():
    first = Result(
        "toy",
        "k",
        {"seed": 0},
        {},
        {},
        {},
        {"device": "Intel(R) Xeon(R) CPU @ 2.70GHz", "commit": "abcdef1234", "dirty": True, "torch": "2.11"},
    )
    second = replace(first, spec={"seed": 5}, provenance=first.provenance | {"device": "NVIDIA H200"})
    line = provenance_line([first, second])
    assert line == "2 results of toy · seeds 0, 5 · Intel Xeon, NVIDIA H200 · commit abcdef1 with uncommitted changes · torch 2.11"
    assert provenance_line([]) == "calculated, nothing measured"


def test_seeds_are_those_that_varied_of_the_run_or_of_what_it_was_made_from():
    def told(*pairs):
        return seeds(Result("toy", str(pair), {"seed": pair[0], "parent": {"seed": pair[1]}}, {}, {}, {}, {}) for pair in pairs)

    assert told((0, 0), (1, 0), (2, 0)) == "seeds 0–2"  # one checkpoint, tuned three times
    assert told((0, 3), (0, 4)) == "seeds 3, 4"  # two checkpoints
    assert told((7, 1)) == "seed 1"


def test_pairs_are_matched_by_seed():
    def side(**by_seed):
        return Results(tuple(Result("toy", seed, {"seed": seed}, {"a": value}, {}, {}, {}) for seed, value in by_seed.items()))

    assert paired_differences(side(s0=0.5, s1=0.7, s2=0.9), side(s1=0.6, s0=0.5), "a") == pytest.approx([0.0, 0.1])
    with pytest.raises(Exception, match="no two results"):
        paired_differences(side(s0=0.5), Results((), (Missing(Toy(), "no GPU"),)), "a")
    twice = Results(side(s0=0.5).found * 2)
    with pytest.raises(ValueError, match="share"):
        paired_differences(twice, side(s0=0.5), "a")
