"""The Snakemake workflow, on a small chapter: one job per missing result."""

import importlib.util
import json
import os

import pytest
from store_specs import Logged

from conftest import ROOT
from lib.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("snakemake") is None,
                       reason='snakemake is not installed: pip install -e ".[workflow]"'),
]

KEYS = {name: Logged(name=name).key for name in ("one", "two", "three")}


@pytest.fixture
def snakemake(python, tmp_path, monkeypatch):
    folders = [ROOT / "tests" / "small_book", ROOT / "tests", ROOT]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("BOOK_RUNS", "runs")

    def run(*words):
        done = python("-m", "snakemake", "--snakefile", ROOT / "workflow" / "Snakefile", "--directory", tmp_path, *words)
        return done.returncode, done.stdout + done.stderr
    return run


def stored(folder):
    return {path.stem for path in (folder / "results" / Logged.experiment).glob("*.json")}


def test_a_dry_run_lists_what_is_missing(snakemake, tmp_path):
    status, output = snakemake("--dry-run", "results")
    assert status == 0 and all(key in output for key in KEYS.values()), output
    assert not (tmp_path / "log").exists()
    assert "lib book --scale laptop" in snakemake("--dry-run", "--printshellcmds")[1]


def test_two_cores_make_each_result_once_and_nothing_again(snakemake, tmp_path):
    status, output = snakemake("--cores", "2", "results", "--config", "scale=smoke", "chapters=small")
    assert status == 0 and stored(tmp_path / "runs") == set(KEYS.values()), output
    assert sorted((tmp_path / "log").read_text().split()[::2]) == ["one", "three", "two"]
    result = Store(tmp_path / "reference", tmp_path / "runs").path(Logged(name="two"))
    json.loads(result.read_text())

    status, output = snakemake("--cores", "2", "results", "--config", "scale=smoke", "minutes=9")
    assert status == 0 and "Nothing to be done" in output, output
    result.unlink()
    status, output = snakemake("--cores", "2", "results", "--config", "scale=smoke")
    assert status == 0 and result.exists(), output
    assert sorted((tmp_path / "log").read_text().split()[::2]) == ["one", "three", "two", "two"]
