"""A build that is killed, or whose kernels or papermill are, takes its processes along and is in no later build's way."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from conftest import ROOT
from lib.book import execute as execution
from lib.book import notebooks
from lib.book.execute import execute
from lib.book.notebooks import Project
from lib.system import attended
from samplebook import KERNEL, write_book

#: Builds the sample book in a folder, as `make book` would, but for the pages.
PROGRAM = """
import sys
from pathlib import Path
from lib.book.execute import execute
from lib.book.notebooks import Project
from samplebook import SampleChapter

class Nobody:
    def __getattr__(self, name):
        return lambda *words: None

root = Path(sys.argv[1])
project = Project(root, (SampleChapter(1, "01-first", "first", "First"),))
execute(project, project.chapters, {project.chapters[0]: {"scale": "smoke"}}, project.build("smoke"), 1, Nobody())
"""

#: Says which process it is, waits as long as a file tells it to, and reports late.
CELL = """
import json, os, time
from pathlib import Path
with open(os.environ["BOOK_PROGRESS"], "a") as events:
    events.write("1\\n")
Path("kernel").write_text(str(os.getpid()))
time.sleep(float(Path("wait").read_text()))
print("executed")"""


class Nobody:
    def __getattr__(self, name):
        return lambda *words: None


@pytest.fixture
def book(tmp_path):
    project = Project(tmp_path, write_book(tmp_path, "01-first"))
    nbformat.write(new_notebook(metadata=KERNEL, cells=[new_code_cell(CELL)]), project.source(project.chapters[0]))
    return project


def build(project):
    return execute(project, project.chapters, {project.chapters[0]: {"scale": "smoke"}}, project.build("smoke"), 1, Nobody())


def waits(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def alive(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


@pytest.mark.slow
def test_kill_9_leaves_no_process_and_the_next_build_is_whole(book):
    (book.root / "wait").write_text("3600")
    folders = os.pathsep.join(map(str, [ROOT, ROOT / "tests", os.environ.get("PYTHONPATH", "")]))
    started = subprocess.Popen([sys.executable, "-c", PROGRAM, str(book.root)], cwd=ROOT, env=os.environ | {"PYTHONPATH": folders})
    told = book.root / "kernel"
    assert waits(lambda: told.exists() and told.read_text()), "its kernel did not start"
    kernel = int(told.read_text())
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert list(execution.working(book.build("smoke")).glob("*.progress")), "the test is about what is left there"

    (book.root / "wait").write_text("0")
    [done] = build(book)
    made = notebooks.read(book.build("smoke") / "chapters" / "01-first.ipynb")
    assert done.failure is None and made.cells[0].outputs[0].text == "executed\n" and made.metadata.book.scale == "smoke"
    assert waits(lambda: not alive(kernel)), "what was killed goes on"
    assert not list(book.build("smoke").rglob("*.progress")) and notebooks.read(book.build("smoke") / "chapters/01-first.ipynb") == made


@pytest.mark.slow
def test_a_kernel_killed_in_mid_chapter_stops_that_chapter_and_the_next_build_carries_on(book):
    (book.root / "wait").write_text("3600")

    class Killer(Nobody):
        def spec(self, chapter, event):  # the cell has begun
            waits(lambda: (book.root / "kernel").exists())
            os.kill(int((book.root / "kernel").read_text()), signal.SIGKILL)

        __getattr__ = Nobody.__getattr__

    [stopped] = execute(book, book.chapters, {book.chapters[0]: {"scale": "smoke"}}, book.build("smoke"), 1, Killer())
    assert stopped.failure and "Kernel died" in stopped.failure.error and stopped.failure.cell == 1
    (book.root / "wait").write_text("0")
    [done] = build(book)
    assert done.failure is None


@pytest.mark.parametrize("left", [b"", b'{"cells": [', b"\xff\xfe", b"[]", b'{"nbformat": 4}'])
def test_a_notebook_that_papermill_left_in_part_is_a_failure_and_no_traceback(book, monkeypatch, left):
    class Dying(execution.Run):
        def command(self):
            self.made.write_bytes(left)
            return [sys.executable, "-c", "print('the disk is gone'); raise SystemExit(9)"]

    monkeypatch.setattr(execution, "Run", Dying)
    [stopped] = build(book)
    assert stopped.failure and stopped.failure.error == "the disk is gone"
    assert not (book.build("smoke") / "chapters" / "01-first.ipynb").exists()


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """Also one that will not listen."""
    inner = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); import signal; from lib.system import attended; "
        "attended.PATIENCE_SECONDS = 0.5; signal.signal(signal.SIGINT, signal.SIG_IGN); attended.end_with_parent(); "
        "print('started', flush=True); time.sleep(3600)"
    )
    outer = f"import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=subprocess.PIPE); p.stdout.readline(); print(p.pid, flush=True); os._exit(0)"
    pid = int(subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True, timeout=60).stdout)
    assert waits(lambda: not alive(pid), 30)


def test_a_module_is_started_as_python_does(tmp_path):
    """With the working folder first, not the library's own folder, whose files are named like others' packages."""
    (tmp_path / "spoken.py").write_text("import sys; print(__name__, sys.path[0] in ('', sys.argv[0].rpartition('/')[0]), sys.argv[1:])")
    done = subprocess.run([sys.executable, attended.__file__, "spoken", "a", "b"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "__main__ True ['a', 'b']\n", done.stderr
