"""Folders that a reader names are found however they are spelled."""

import os
from pathlib import Path

import pytest

from lib import ROOT
from lib.book.execute import Run
from lib.book.notebooks import Project
from lib.data.files import data_folders
from lib.runs.store import Store
from lib.studies import CHAPTERS
from lib.system import folders


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("spelled, folder", [("~/r 2/", "{home}/r 2"), ("./r2", "r2"), ("r2/", "r2"), ("/x/", "/x"), ("a~b", "a~b")])
def test_a_folder_may_be_spelled_in_any_way(home, monkeypatch, spelled, folder):
    folder = Path(folder.format(home=home))
    assert folders.named(spelled) == Store.default(spelled).own == folder
    monkeypatch.setenv("BOOK_RUNS", spelled)
    assert Store.default().own == folders.own_runs() == folder


def test_without_a_name_it_is_runs(monkeypatch):
    for value in ("", None):
        monkeypatch.setenv("BOOK_RUNS", value) if value is not None else monkeypatch.delenv("BOOK_RUNS")
        assert Store.default().own == ROOT / "runs"


def test_the_home_of_nobody_is_refused():
    with pytest.raises(ValueError, match="the folder '~nobody-here/runs' cannot be found"):
        folders.named("~nobody-here/runs")


def test_data_may_lie_in_the_home_folder(home, monkeypatch):
    (home / "data").mkdir()
    monkeypatch.setenv("BOOK_DATA", "~/data")
    assert data_folders()[0] == home / "data"


def test_kernels_find_the_folders_that_this_process_means(home, monkeypatch, tmp_path):
    monkeypatch.setenv("BOOK_RUNS", "~/runs")
    monkeypatch.setenv("BOOK_DATA", "data")
    environment = Run(Project(), CHAPTERS[0], {}, tmp_path, 1).environment()
    assert (environment["BOOK_RUNS"], environment["BOOK_DATA"]) == (str(home / "runs"), os.path.abspath("data"))
