"""The command line, on a small chapter of its own."""

import errno
import io
import json
import types

import pytest
from click.testing import CliRunner
from rich.console import Console

from conftest import ROOT
from lib import studies
from lib.__main__ import main
from lib.book import launch
from lib.book.bars import words
from lib.claims import entries

# Imported before any test puts a small book in place of the real one, whose chapters this module keeps.
from lib.cli import claims as _  # noqa: F401
from lib.cli.names import value_of
from lib.cli.run import shown
from lib.runs import progress
from lib.runs.labels import labels
from lib.runs.store import obtain
from lib.studies import Chapter
from store_specs import Logged, Teacher


@pytest.fixture(autouse=True)
def small_book(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(ROOT / "tests" / "small_book")])
    monkeypatch.setattr(studies, "CHAPTERS", (Chapter(98, "98-small", "small", "A small chapter"),))
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))


def call(*words, status=0):
    answer = CliRunner().invoke(main, list(words))
    assert answer.exit_code == status, answer.output
    assert isinstance(answer.exception, (SystemExit, type(None))), answer.exception
    return answer.output


#: A call of every command that has a scale.
WITH_SCALE = [["run", "small"], ["run", "--all"], ["run", "--all", "--list"], ["results"], ["claims"], ["hours", "small"], ["book"]]


@pytest.fixture
def log(tmp_path):
    return lambda: (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []


def test_run_stores_what_is_missing_and_repeats_nothing(log):
    assert "3 of 3 results stored" in call("run", "small", "--device", "cpu")
    assert log() == ["one 0", "two 0", "three 0"]
    assert "3 of 3 results stored" in call("run", "98-small")
    assert len(log()) == 3
    call("run", "98", "-p", "recompute", "True", "--study", "main")
    assert len(log()) == 5


def test_run_can_be_narrowed_and_listed(log):
    assert call("run", "small", "--list").count("missing") == 3
    key = Logged(name="two").key
    call("run", "small", "--key", key[:10])
    assert log() == ["two 0"]
    listed = call("run", "small", "--list")
    assert f"{key}  own" in listed and listed.count("missing") == 2


def test_a_terminal_shows_a_bar(capsys):
    screen = io.StringIO()
    with shown(Console(file=screen, force_terminal=True, width=100)):
        obtain([Logged(name="one"), Logged(name="two")], device="cpu")
    assert "2/2" in screen.getvalue() and "test-logged name=two" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_parameters_reach_the_specs(log):
    call("run", "small", "--study", "other", "-p", "word", "ten", "-p", "rate", "2", "-p", "seeds", "None")
    assert log() == ["ten 0", "one 0"]
    assert "ten" in call("run", "small", "-p", "word", "ten", "-p", "rate", "2.0", "--list")


def test_a_text_parameter_takes_a_number_as_it_was_typed(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("run", "small", "--study", "other", "-p", "word", "007", "-p", "output", "2024")
    assert log() == ["007 0", "one 0"] and (tmp_path / "2024" / "results").is_dir()


def test_output_names_another_folder(tmp_path):
    call("run", "small", "-p", "output", str(tmp_path / "elsewhere"))
    assert len(list((tmp_path / "elsewhere" / "results").glob("*/*.json"))) == 3
    assert not (tmp_path / "runs").exists()


def test_time_limit_stops_between_results_and_the_same_command_goes_on(log, monkeypatch):
    assert "3 missing, not begun within the time limit" in call("run", "small", "--time-limit", "0", status=3)
    monkeypatch.setenv("PAUSE", "0.5")
    call("run", "small", "--time-limit", str(0.25 / 60), status=3)
    assert log() == ["one 0"]
    monkeypatch.setenv("PAUSE", "0")
    call("run", "small")
    assert log() == ["one 0", "two 0", "three 0"]


def test_a_chapter_is_found_by_its_file():
    for name in ("98-small.ipynb", "chapters/98-small.ipynb", "/elsewhere/chapters/98-small.ipynb"):
        assert call("run", name, "--list").count("missing") == 3


def test_progress_says_first_how_far_it_is_then_what_differs(monkeypatch):
    monkeypatch.setattr(progress, "watchers", seen := [])
    seen.append(lambda event: told.append(words(event)))
    told = []
    obtain([Logged(name="one", rate=2.0), Logged(name="two", rate=2.0, seed=3), Logged(name="two", rate=2.0)], device="cpu")
    assert told[:2] == ["0/3  half  test-logged name=one rate=2", "1/3  ran  test-logged name=one rate=2"]
    assert "3/3  ran  test-logged name=two rate=2" in told and "2/3  ran  test-logged seed=3 name=two rate=2" in told


def test_labels_put_first_what_differs():
    first, second = Logged(name="one", rate=2.0), Logged(name="one", rate=2.0, seed=1)
    assert list(labels([first, second]).values()) == ["test-logged name=one rate=2", "test-logged seed=1 name=one rate=2"]
    third = Logged(name="two", rate=2.0)
    assert labels([first, third, Teacher()])[third] == "test-logged name=two rate=2"
    assert labels([Logged(name="one", rate=2.0), Logged(name="one", rate=3.0)])[first] == "test-logged rate=2 name=one"


def test_a_label_of_its_own_is_kept():
    class Titled(Logged):
        label = "twenty networks"

    assert list(labels([Titled(name="one"), Logged(name="one")]).values()) == ["twenty networks", "test-logged name=one"]


def test_a_long_list_ends_with_the_reason(monkeypatch):
    monkeypatch.setattr("lib.cli.run.NAMED", 2)
    lines = call("run", "small", "--time-limit", "0", status=3).splitlines()
    assert lines[-2:] == ["3 missing, not begun within the time limit", "98-small at scale laptop: 0 of 3 results stored"]
    assert lines[-3] == "  … and 1 more, which --list shows" and Logged(name="one").key in lines[0]


def test_ctrl_c_says_that_it_carries_on(monkeypatch):
    def interrupted(*words, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.cli.run.obtain", interrupted)
    assert "stopped; finished results are stored, the same command carries on" in call("run", "small", status=130)


def test_a_full_disk_is_one_line_that_says_what_to_do(monkeypatch):
    def full(path, result):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("lib.system.whole_file.sync_folder", lambda folder: full(folder, None))
    output = call("run", "small", status=1)
    assert output.splitlines()[-1].startswith("Error: ") and "Make room, or set BOOK_RUNS" in output


def test_what_could_not_run_is_named():
    output = call("run", "small", "-p", "word", "thirteen", status=1)
    assert "2 of 3 results stored" in output and "1 missing, thirteen needs a lucky machine" in output
    assert Logged(name="thirteen").key in output


@pytest.mark.parametrize(
    "words, message",
    [
        (["run", "smal"], "no chapter 'smal'; there are 98 (small). Did you mean 'small'?"),
        (["run", "small", "-p", "rat", "2"], "unknown parameter 'rat'. Did you mean 'rate'?"),
        (["run", "small", "-p", "rate", "fast"], "parameter 'rate' takes float, not 'fast' (str)"),
        (["run", "small", "-p", "seeds", "0"], "must be at least 1, not 0"),
        (["run", "small", "--scale", "labtop"], "unknown scale 'labtop'; choose one of smoke, laptop, cpu, gpu. Did you mean 'laptop'?"),
        (["run", "small", "--study", "mian"], "no study 'mian'; there are main, other. Did you mean 'main'?"),
        (["run", "small", "--key", "zz"], "0 results have a name beginning with 'zz'"),
        (["run", "small", "--device", "abacus"], "unknown device 'abacus'"),
        *(([*words, "--scale", "tiny"], "unknown scale 'tiny'") for words in WITH_SCALE),
        (["run", "small", "-p", "scale", "cpu"], "give --scale instead of -p scale"),
        (["book", "-p", "scale", "cpu"], "give --scale instead of -p scale"),
        (["run", "small", "-p", "rate", "1", "-p", "rate", "2"], "'rate' is given twice"),
        (["run", "small", "-p", "rate", "inf"], "parameter 'rate' takes numbers below 1,000,000,000,000, not inf"),
        (["run", "small", "-p", "rate", "nan"], "parameter 'rate' takes numbers below 1,000,000,000,000, not nan"),
        (["run", "small", "-p", "rate", "-1e400"], "parameter 'rate' takes numbers below 1,000,000,000,000, not -inf"),
        (["run", "small", "-p", "seeds", "1" * 5000], "parameter 'seeds' takes numbers below"),
        (["run", "small", "-p", "seeds", "1" * 50], "parameter 'seeds' takes numbers below 1,000,000,000,000, not more"),
        (["run", "small", "-p", "seeds", "101"], "must be at most 100, not 101"),
        (["run", "small", "-p", "seeds", "many " * 100], "parameter 'seeds' takes int or None, not 'many many"),
        (["run", "small", "--time-limit", "nan"], "'nan' is not a length of time"),
        (["run", "small", "--time-limit", "8m"], "'8m' is not a valid float"),
        (["run", "small", "-p", "output", "~nobody-here/x"], "the folder '~nobody-here/x' cannot be found"),
    ],
)
def test_wrong_use_says_what_is_right(words, message):
    assert message in " ".join(call(*words, status=2).split())


def test_every_scale_is_tried_with_a_wrong_one():
    with_scale = {name for name, command in main.commands.items() if "scale" in {option.name for option in command.params}}
    assert with_scale == {words[0] for words in WITH_SCALE}


def test_parameters_that_do_not_go_together_are_wrong_use(monkeypatch):
    def refuse(parameters):
        raise ValueError("width 17 must be a multiple of 16")

    monkeypatch.setattr(studies.CHAPTERS[0].module, "studies", refuse)
    for command in ("run", "results"):
        assert "width 17 must be a multiple of 16" in call(command, "small", status=2)


def test_gpu_scale_without_a_gpu_replays_and_says_what_to_do(monkeypatch, log):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    call("run", "small", "--key", Logged(name="one").key)
    output = call("run", "small", "--scale", "gpu", status=2)
    assert "1 of 3 results stored" in output and "use scale cpu or laptop" in output
    assert log() == ["one 0"]
    assert "1 of 1 results stored" in call("run", "small", "--scale", "gpu", "--key", Logged(name="one").key)


def test_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "file" / "runs"))
    assert "Error: cannot write results to" in call("run", "small", status=1)


def test_results_are_shown_as_tables_and_json():
    call("run", "small", "--study", "main", "--device", "cpu")
    summary = call("results")
    assert [word in summary for word in ("98-small", "main", "other")] == [True] * 3
    listed = call("results", "small")
    assert listed.count("missing") == 1 and all(Logged(name=name).key in listed for name in ("one", "two", "three"))
    assert "test-logged name=three" in listed
    rows = json.loads(call("results", "--json"))
    assert [(row["study"], row["stored"]) for row in rows] == [("main", "own"), ("main", "own"), ("other", None), ("other", "own")]
    assert rows[0]["metrics"]["length"] == 3 and rows[0]["seconds"] >= 0 and rows[2]["device"] is None


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("True", True),
        ("false", False),
        ("None", None),
        ("null", None),
        ("cifar10", "cifar10"),
        ("[1", "[1"),
        ("01-moe", "01-moe"),
        ("no", "no"),
        ("", ""),
    ],
)
def test_values_are_read_as_papermill_reads_them(text, value):
    assert value_of(text) == value and type(value_of(text)) is type(value)


def test_gpus_start_torchrun(monkeypatch):
    started = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(launch.subprocess, "run", lambda command, env: started.append(command) or types.SimpleNamespace(returncode=1))
    output = call("run", "small", "-p", "gpus", "2", "-p", "rate", "3", "--study", "main", status=1)
    assert "2 missing, not finished by its 2 processes" in output
    (command,) = started
    assert command[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert command[6:] == ["-m", "lib", "run", "small", "--scale", "laptop", "-p", "rate", "3.0", "--study=main"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert "gpus=2 was asked for and this machine has 1" in call("run", "small", "-p", "gpus", "2", status=2)


def test_book_and_edition_hand_on_what_was_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("lib.cli.book.build", lambda *words: asked.append(words) or 0)
    monkeypatch.setattr("lib.cli.book.make_edition", lambda *words: asked.append(words) or 1)
    call("book", "--scale", "smoke", "-p", "seeds", "2", "--chapter", "small", "--jobs", "3")
    call("edition", status=1)
    small = studies.CHAPTERS[0]
    assert asked == [("smoke", 3, {"seeds": 2}, [small]), (None, [])]


def test_book_refuses_what_no_chapter_takes():
    assert "unknown parameter 'sedes'. Did you mean 'seeds'?" in call("book", "--chapter", "small", "-p", "sedes", "1", status=2)
    assert "unknown scale 'labtop'" in call("book", "--chapter", "small", "--scale", "labtop", status=2)


def test_help_is_fast(python):
    shown = python("-X", "importtime", "-m", "lib", "--help")
    assert shown.returncode == 0 and all(command in shown.stdout for command in ("book", "edition", "run", "results", "doctor"))
    assert "torch" not in shown.stderr and "pandas" not in shown.stderr


def test_doctor_fits_one_screen(python, tmp_path):
    shown = python("-m", "lib", "doctor", BOOK_RUNS=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert [title in shown.stdout for title in ("This machine", "Tools", "Data sets", "Stored results")] == [True] * 4
    assert len(shown.stdout.splitlines()) <= 40


def test_a_result_is_shown_with_the_line_that_made_it(log):
    key = Logged(name="two").key
    before = call("show", key[:8])
    assert "nowhere: it was not run yet" in before and "tests/store_specs.py:" in before and "name = two" in before
    made_by = before.strip().splitlines()[-1]
    assert made_by.endswith(f"python -m lib run small --scale smoke --study main --key {key}")
    call(*made_by.split("python -m lib ")[1].split())
    assert log() == ["two 0"]
    after = call("show", key)
    assert f"{key}.json" in after and "from commit: " in after
    assert "chapter 98, study 'main', scale laptop" in after and "study 'other'" not in after


def test_a_result_that_is_not_one_of_the_book_is_refused():
    assert "no result of the book" in call("show", "zzz", status=2)
    assert "3 results have a name" in call("show", "", status=2)


def test_a_slip_in_what_people_type_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "claims.yml").write_text("- id: one\n  metrik: m\n")
    monkeypatch.setattr(entries, "ROOT", tmp_path)
    entries.claims.cache_clear()
    try:
        said = call("claims", status=1)
    finally:
        entries.claims.cache_clear()
    assert said == "Error: claims.yml: 'one': a claim has no field 'metrik'. Did you mean 'metric'?\n"


def test_a_claim_is_shown_with_all_that_decides_it(monkeypatch, tmp_path):
    monkeypatch.undo()  # the real book
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path / "runs"))
    judged = json.loads(call("claims", "privacy", "--scale", "cpu", "--as", "json"))
    measured = next(entry for entry in judged if entry["edition_measured"] and entry["own_measured"])
    claim = entries.find(measured["claim"])
    told = call("claims", claim.id, "--scale", "cpu")
    assert entries.paper_of(claim).title in told and str(claim.values) in told and "Reproduced if" in told
    for name, prefix in (("edition", "edition"), ("cpu", "own")):
        (line,) = (line for line in told.splitlines() if line.startswith(f"{name} "))
        assert measured[f"{prefix}_measured"] in line and measured[f"{prefix}_verdict"] in line
    assert [entry["claim"] for entry in json.loads(call("claims", claim.id, "--as", "json"))] == [claim.id]
