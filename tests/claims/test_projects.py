"""The student projects' tables: well-formed, and every number of ours is read from results."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lib import ROOT
from lib.claims.project_base import metric
from lib.claims.project_tables import COUNTED, UNITS, Shelf, frame, rows
from lib.claims.project_values import VALUES
from lib.claims.projects import project, projects, read_projects
from lib.cli.names import value_of
from lib.measure.statistics import NotTestable
from lib.runs.results import Outcome, Result, Results
from lib.runs.store import Store
from lib.studies import chapter
from lib.studies.base.parameters import checked
from lib.studies.elastic.vit import ElasticRun

FILE = ROOT / "data" / "projects.yml"
TABLES = list(projects().values())
tables = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)


class Measured(dict):
    """Metrics of a made-up run: each that is not given is this number, whatever its name."""

    def __init__(self, number, **given):
        super().__init__(given)
        self.number = number

    def __missing__(self, name):
        return self.number

    def __contains__(self, name):
        return True

    def get(self, name, default=None):
        return self[name]


class Full:
    """A store in which every Spec has a result; the number in it tells the seed."""

    def get(self, spec):
        named = spec.named(spec.offered or spec.space) if isinstance(spec, ElasticRun) else {}
        sizes = {f"size_{name}": size.label for name, size in named.items()}  # by which twins are found
        return Result.of(spec, Outcome(Measured(0.5 + 0.01 * spec.seed, diverged=False, **sizes), data={"name": "made-up"}), {})


@pytest.fixture
def nothing(tmp_path):
    return Store(tmp_path / "reference", tmp_path / "own")


def edited(tmp_path, change):
    """A file with the first table alone, changed by ``change``."""
    entry = yaml.safe_load(FILE.read_text())[0]
    change(entry)
    path = tmp_path / "projects.yml"
    path.write_text(yaml.safe_dump([entry], allow_unicode=True))
    return path


def test_every_function_is_named_by_some_row():
    assert {line.ours for table in TABLES for line in table.rows} - {None} == VALUES.keys()


@tables
def test_every_row_says_where_ours_comes_from(table):
    studies = chapter(table.subject).module.studies(chapter(table.subject).module.Parameters(scale="gpu"))
    for column in table.columns.values():
        assert set(column.study) <= studies.keys(), column.title
        assert column.unit in UNITS
    told = [(line.label, line.column.id) for line in table.rows]
    assert len(set(told)) == len(told)
    for line in table.rows:
        assert line.ours is None or callable(line.function())
        assert line.corrected is None or line.corrected.why.endswith(".")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda entry: entry["rows"][0].update(ours="switch_vit_acuracy"), "Did you mean 'switch_vit_accuracy'"),
        (lambda entry: entry["rows"][0].update(given={"expert": 3}), "switch_vit_accuracy got an unexpected keyword"),
        (lambda entry: entry["rows"][0].update(ours=0.44), "no function 0.44"),
        (lambda entry: entry["rows"][0].update(ours=None), "why_not, one of the two"),
        (lambda entry: entry["rows"][0].update(value=0.44), "unexpected keyword argument 'value'"),
        (lambda entry: entry["rows"][0].update(column="acuracy"), "column of row 'dense' is 'acuracy'"),
        (lambda entry: entry["rows"][0].update(figure=None), "give a number in the column's unit"),
        (lambda entry: entry["columns"]["accuracy"].update(unit="furlongs"), "use one of 'percent'"),
        (lambda entry: entry.update(subject="moee"), "subject is 'moee'"),
        (lambda entry: entry.update(rows=[]), "a table needs rows"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, change, said):
    with pytest.raises(ValueError, match="projects.yml: 'switch-vit'") as error:
        read_projects(edited(tmp_path, change))
    assert said in str(error.value)


def test_an_unknown_table_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'switch-vit'"):
        project("switch-vitt")


@tables
def test_stored_results_give_a_number_or_a_reason_for_every_row(table):
    for row in rows(table):
        assert (row.ours is None) != (row.reason is None), row.label
        assert row.ours is None or row.scale


@tables
def test_without_results_there_is_no_number_but_what_is_counted(table, nothing):
    assert {row.scale for row in rows(table, nothing) if row.ours} <= {COUNTED}


@tables
def test_every_row_that_has_a_counterpart_gets_a_number_at_full_scale(table):
    found = rows(table, Full())
    lacking = {f"{row.label}, {row.column.id}": row.reason for row, line in zip(found, table.rows) if line.ours and not row.ours}
    assert lacking == {}
    for row in found:
        assert row.scale in ("gpu", "any scale", COUNTED, None)
        if row.results:  # no run of another method has slipped in
            assert row.n <= len({first_seed(result.spec) for result in row.results}), row.label


def first_seed(spec):
    """The seed of a run, or of the one that it was made from at first: what is only measured has no seed of its own."""
    return first_seed(spec["parent"]) if spec.get("parent") else spec["seed"]


def test_the_geometry_of_switch_vit_has_the_projects_number_of_parameters():
    counted = [line for line in project("switch-vit").rows if line.column.id == "parameters"]
    for line in counted:
        assert line.function()({}) == [pytest.approx(1e6 * line.figure, abs=0.5)]
    assert len(counted) == 3


def test_the_best_scale_with_everything_stored_is_read():
    class UpTo(Full):
        """Only what the cpu scale runs is there, and one result of gpu."""

        def get(self, spec):
            return super().get(spec) if spec in there else None

    module = chapter("moe").module
    at = {scale: module.studies(module.Parameters(scale=scale))["accuracy"] for scale in ("cpu", "gpu")}
    there = {*at["cpu"], at["gpu"][0]}
    assert Shelf(module, UpTo()).best(["accuracy"])[0] == "cpu"
    there = set(at["gpu"][:4]) | set(at["cpu"][:2])
    scale, studies = Shelf(module, UpTo()).best(["accuracy"])
    assert scale == "gpu" and len(studies["accuracy"]) == 4


def test_a_number_that_runs_of_a_smaller_size_lack_is_said_to_be_missing():
    """`laptop` has fewer images than the largest batch that is timed elsewhere."""
    small = Results((SimpleNamespace(metrics={"latency_1_small_ratio": 0.5}),), ())
    assert metric(small, "latency_1_small_ratio") == [0.5]
    with pytest.raises(NotTestable, match="of this size do not have"):
        metric(small, "latency_256_small_ratio")


def test_the_table_for_the_page():
    table = frame(project("switch-vit"), Full())
    assert list(table.columns) == ["row", "the project", "corrected", "ours (scale, n)"]
    first = table.iloc[0]
    assert first["row"] == "dense: best test accuracy" and first["the project"] == "81.36 %"
    assert first["corrected"].startswith("80.36 %. ") and first["ours (scale, n)"] == "51.0 ± 2.5 % (gpu, made-up, n=3)"
    differences = table[table["row"].str.startswith("64 experts: accuracy minus")].iloc[0]
    assert differences["the project"] == "-2.56 points" and differences["ours (scale, n)"].startswith("+0.00 ± 0.00 points")
    assert "no counterpart" not in str(frame(project("model-growth"), Full()))


# README: what the projects' commands are here

README = (ROOT / "README.md").read_text(encoding="utf-8")
TRANSLATED = re.search(r"\| There \| Here \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", README)[1].splitlines()
#: Those that name a chapter.
COMMANDS = [
    command for command in re.findall(r"(?<![\w`])`?((?:papermill chapters/|python -m lib run )[^`#\n]+)", README) if "--all" not in command
]


def called(command):
    """Chapter, parameters and studies of a command line of README."""
    words = iter(shlex.split(command))
    given, studies, name = {}, [], None
    for word in words:
        if word == "-p":
            parameter = next(words)
            given[parameter] = value_of(next(words))
        elif word == "--scale":
            given["scale"] = next(words)
        elif word == "--study":
            studies.append(next(words))
        elif word == "run" or word.startswith("chapters/"):
            name = next(words) if word == "run" else Path(word).stem
        elif word.startswith("--"):
            assert word == "--time-limit" and float(next(words)), command
        else:
            assert word in ("papermill", "python", "-m", "lib", "out.ipynb"), f"{word!r} in {command}"
    return chapter(name), given, studies


def test_every_command_of_the_projects_has_one_here():
    """Each row names a command here, and all that the ViT script could be told is among the parameters."""
    for row in TRANSLATED:
        assert sum(command in row for command in COMMANDS) >= 1, row
    assert len(TRANSLATED) >= 10
    stages = {given.get("stage") for _, given, _ in map(called, COMMANDS)}
    assert stages >= {"elastic", "baselines", "benchmark", "visualize"}
    vit = set().union(*(given for where, given, _ in map(called, COMMANDS) if where.subject == "moe"))
    assert vit >= {"gpus", "epochs", "experts", "batch_size", "dense_only", "dataset", "output", "d_model"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_can_be_run(command):
    where, given, studies = called(command)
    assert where.path.exists()
    parameters = checked(where.module.Parameters, given)
    found = where.module.studies(parameters)
    assert set(studies) <= found.keys()
    wanted = [spec for name in studies or found for spec in found[name]]
    assert wanted or parameters.replay_only
