"""A full disk and a read-only one, at each place where the book is written: the old files stay, and one line says what to do."""

import builtins
import contextlib
import errno
import io
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from click import ClickException
from rich.console import Console

from lib.__main__ import plainly
from lib.book import edition, notebooks, render
from lib.book.execute import Execution
from lib.book.notebooks import Project
from lib.data import files, text_cache
from lib.data.files import Decoded
from lib.data.text_cache import Encoded
from lib.runs import progress
from lib.runs.store import Store
from lib.system.whole_file import copied, unwritable, write_text
from samplebook import write_book

WRONG = [errno.ENOSPC, errno.EROFS]


class Disk:
    """From its ``last``-th write below ``folder`` on, every file that is opened for writing there fails with ``number``."""

    def __init__(self, monkeypatch, folder, last, number):
        self.writes, self.last, self.number, self.folder, self.real = 0, last, number, str(folder), builtins.open
        monkeypatch.setattr(builtins, "open", self.open)
        monkeypatch.setattr(io, "open", self.open)

    def open(self, file, mode="r", *words, **more):
        if set(mode) & set("wax+") and isinstance(file, (str, os.PathLike)) and os.fspath(file).startswith(self.folder):
            self.writes += 1
            if self.writes > self.last:
                raise OSError(self.number, os.strerror(self.number), os.fspath(file))
        return self.real(file, mode, *words, **more)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def each_write(monkeypatch, folder, number, action, check):
    """Call ``action`` with a disk that is full from the 1st, 2nd, … write on, until it is done; returns how many writes there are."""
    last = 0
    while True:
        with monkeypatch.context() as patch:
            disk = Disk(patch, folder, last, number)
            try:
                with plainly():
                    action()
                return last
            except ClickException as error:
                assert len(error.message.splitlines()) == 1 and "could not be written (" in error.message, error.message
                assert ("Make room" if number == errno.ENOSPC else "copy the book to a folder") in error.message
            assert disk.writes > last
        check()
        last = disk.writes
        assert last < 1000


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "find_quarto", lambda: (None, "no Quarto here"))
    return Project(tmp_path, write_book(tmp_path, "01-first"))


@pytest.mark.slow
@pytest.mark.parametrize("number", WRONG)
def test_pages_are_whole_or_the_previous_ones(project, tmp_path, monkeypatch, number):
    folder = project.build("smoke")
    folder.mkdir(parents=True)
    render.render(project, folder, "smoke")
    before = content(project.book)
    (tmp_path / "index.qmd").write_text((tmp_path / "index.qmd").read_text() + "\n\nAnother sentence.\n")

    def untouched():
        assert content(project.book) == before

    assert each_write(monkeypatch, tmp_path, number, lambda: render.render(project, folder, "smoke"), untouched) > 20
    after = content(project.book)
    assert (
        after.keys() == before.keys() and b"Another sentence." in after["index.html"] and b"Another sentence." not in before["index.html"]
    )


@pytest.mark.parametrize("number", WRONG)
def test_an_edition_leaves_whole_notebooks_and_results(project, tmp_path, monkeypatch, number):
    """The new one or the old one, each of them; and no part of a file in a folder that git looks at."""
    (chapter,) = project.chapters
    made = project.build("edition") / "chapters" / project.source(chapter).name
    notebook = notebooks.read(project.source(chapter))
    notebook.cells[0].source += "\n\nExecuted."
    notebooks.write(notebook, made)
    old, new = project.source(chapter).read_bytes(), made.read_bytes()
    own, reference = tmp_path / "own" / "a.json", tmp_path / "data" / "results" / "a.json"
    for path, text in ((own, "new"), (reference, "old")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr(edition, "promote", lambda chapter, store: [copied(own, reference)])
    monkeypatch.setattr(edition, "execute_shown", lambda *words: [Execution(chapter, 1.0, Path("log"), "")])
    store = Store(tmp_path / "data" / "results", tmp_path / "own")

    def whole():
        assert project.source(chapter).read_bytes() in (old, new) and reference.read_text() in ("old", "new")
        assert not [path for place in ("chapters", "data", "assets") for path in (tmp_path / place).rglob(".*")]

    console = Console(file=io.StringIO())
    writes = each_write(monkeypatch, tmp_path, number, lambda: edition.make_edition(project=project, store=store, console=console), whole)
    assert writes > 4 and project.source(chapter).read_bytes() == new and reference.read_text() == "new"


def test_a_file_that_would_not_change_is_not_written(tmp_path):
    assert write_text("a", tmp_path / "f") and not write_text("a", tmp_path / "f") and write_text("b", tmp_path / "f")
    assert os.listdir(tmp_path) == ["f"]


@contextlib.contextmanager
def no_file_beyond(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_cache_that_does_not_fit_is_left_out(tmp_path, monkeypatch):
    """What it holds is read from its sources the next time, too; the run goes on."""
    monkeypatch.setattr(text_cache, "cache_folders", lambda: [tmp_path / "a", tmp_path / "b"])
    pictures = Decoded(*(torch.zeros(100, *shape, dtype=torch.uint8) for shape in ((3, 4, 4), (), (3, 4, 4), ())), variant="none")
    tokens = torch.zeros(1000, dtype=torch.int32)
    encoded = Encoded(tokens, tokens, tokens, (1, 1, 1), (1, 1, 1), "{}", "none")
    with no_file_beyond(500):
        assert not files._write_cache(tmp_path / "decoded" / "x.safetensors", pictures)
        text_cache.write("x.safetensors", encoded)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [] and text_cache.read("x.safetensors") is None
    assert files._write_cache(tmp_path / "decoded" / "x.safetensors", pictures)
    text_cache.write("x.safetensors", encoded)
    assert (
        np.array_equal(text_cache.read("x.safetensors").train, tokens)
        and files._read_cache(tmp_path / "decoded" / "x.safetensors") is not None
    )


@pytest.mark.parametrize("number", WRONG)
def test_progress_that_cannot_be_told_stops_nothing(tmp_path, monkeypatch, number):
    monkeypatch.setenv("BOOK_PROGRESS", str(tmp_path / "events"))
    with monkeypatch.context() as patch:
        Disk(patch, tmp_path, 0, number)
        progress.Progress(1).finished("a", "ran")
    monkeypatch.setenv("BOOK_PROGRESS", str(tmp_path / "gone" / "events"))
    progress.Progress(1).finished("a", "ran")
    assert os.listdir(tmp_path) == []


def test_other_errors_are_no_lack_of_room():
    assert unwritable(FileNotFoundError(errno.ENOENT, "no such file", "a")) is None
    with pytest.raises(FileNotFoundError), plainly():
        open("/nowhere/at/all")
