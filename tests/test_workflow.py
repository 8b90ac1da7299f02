"""The Snakemake workflow, on a small chapter: one job per missing result."""

import importlib.util
import json
import os
import re

import pytest

from conftest import ROOT
from lib.runs.store import Store
from store_specs import Logged

needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason='snakemake is not installed: pip install -e ".[workflow]"'
)

KEYS = {name: Logged(name=name).key for name in ("one", "two", "three")}


@pytest.fixture
def snakemake(python, tmp_path, monkeypatch):
    folders = [ROOT / "tests" / "small_book", ROOT / "tests", ROOT]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [*folders, *filter(None, [os.environ.get("PYTHONPATH")])])))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("BOOK_RUNS", "runs")

    def run(*words):
        done = python("-m", "snakemake", "--snakefile", ROOT / "workflow" / "Snakefile", "--directory", tmp_path, *words)
        return done.returncode, done.stdout + done.stderr

    return run


def stored(folder):
    return {path.stem for path in (folder / "results" / Logged.experiment).glob("*.json")}


@needs_snakemake
@pytest.mark.slow
def test_a_dry_run_lists_what_is_missing(snakemake, tmp_path):
    status, output = snakemake("results", "--dry-run")
    assert status == 0 and all(key in output for key in KEYS.values()), output
    assert not (tmp_path / "log").exists()
    assert "lib book --scale laptop" in snakemake("--dry-run", "--printshellcmds")[1]


@needs_snakemake
@pytest.mark.slow
def test_two_cores_make_each_result_once_and_nothing_again(snakemake, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BOOK_RUNS", "~/../my ./runs/")  # spelled otherwise than the results' paths, with a space
    (tmp_path / "home").mkdir()
    runs = tmp_path / "my ." / "runs"
    status, output = snakemake("results", "--cores", "2", "--config", "scale=smoke", "chapters=small")
    assert status == 0 and stored(runs) == set(KEYS.values()), output
    assert sorted((tmp_path / "log").read_text().split()[::2]) == ["one", "three", "two"]
    result = Store(tmp_path / "reference", runs).path(Logged(name="two"))
    json.loads(result.read_text())

    status, output = snakemake("results", "--cores", "2", "--config", "scale=smoke", "minutes=9")
    assert status == 0 and "Nothing to be done" in output, output
    result.unlink()
    status, output = snakemake("results", "--cores", "2", "--config", "scale=smoke")
    assert status == 0 and result.exists(), output
    assert sorted((tmp_path / "log").read_text().split()[::2]) == ["one", "three", "two", "two"]


@pytest.mark.parametrize("file", ["README.md", "workflow/README.md", "workflow/Snakefile"])
def test_no_command_line_loses_its_target(file):
    """--config takes every word behind it, a target too, and Snakemake then says nothing."""
    lines = re.findall(r"^[# ]*(snakemake .*?)(?:  |$)", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert lines or file == "README.md"
    for line in lines:
        assert all("=" in word for word in line.partition(" --config ")[2].split()), line
