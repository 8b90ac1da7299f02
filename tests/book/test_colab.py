"""The cell that Colab runs first, as far as it can be tried without Google: its module faked, a local repository, pip recorded."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from lib import ROOT
from lib.book import notebooks
from lib.book.notebooks import Project
from lib.studies import CHAPTERS

pytest.importorskip("IPython", reason="notebooks need IPython")

#: What Colab brings along and must not be replaced.
KEPT = {
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scipy",
    "plotly",
    "matplotlib",
    "pillow",
    "scikit-learn",
    "pyarrow",
    "pyyaml",
    "click",
    "ipython",
}

#: What the library needs, by the names of its packages.
NEEDED = {
    re.match(r"[\w-]+", line)[0].lower()
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
}

#: Runs cells in a shell of its own and prints, as JSON, what pip was asked for and where ``lib`` came from.
RUNNER = """
import json, os, sys, types
for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
from IPython.core.interactiveshell import InteractiveShell
asked, shell = [], InteractiveShell.instance()
shell.register_magic_function(asked.append, "line", "pip")
cells, elsewhere = json.loads(sys.stdin.read())
for cell in cells:
    shell.run_cell(cell).raise_error()
os.chdir(elsewhere)
import lib.book
shell.run_cell("done = True").raise_error()
print("\\n" + json.dumps({"asked": asked, "lib": lib.book.__file__}))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of the library alone, from which git clones as from an address."""
    root = tmp_path_factory.mktemp("remote") / "a book"  # a space, as folders may have
    shutil.copytree(ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", root / "pyproject.toml")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root.as_uri()


def first_cell(chapter, address: str) -> str:
    (cell,) = (cell for cell in notebooks.read(Project().source(chapter)).cells if "colab" in notebooks.tags(cell))
    assert '_repository = ""' in cell.source, "filled in where an edition is made"
    return cell.source.replace('_repository = ""', f'_repository = "{address}"')


def run(cells, folder, elsewhere):
    """In ``folder``, where another package called lib lies, without the book on the path; afterwards in another folder."""
    (folder / "lib").mkdir()
    (folder / "lib" / "__init__.py").write_text("raise ImportError('not the book')\n")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", RUNNER]
    told = subprocess.run(
        command, input=json.dumps([cells, str(elsewhere)]), cwd=folder, env=outside, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_a_chapter_fetches_the_book_and_replaces_nothing(chapter, repository, tmp_path):
    cell = first_cell(chapter, repository)
    found = run([cell, cell], tmp_path, tmp_path)  # twice, as after a restart of the session
    assert found["lib"].startswith(str(tmp_path / "book" / "lib"))
    words = {word.strip('"').partition("=")[0].partition(">")[0].lower() for line in found["asked"] for word in line.split()}
    assert not KEPT & words
    assert NEEDED <= KEPT | words, "a package that the library needs is neither Colab's own nor asked for"
    assert all("--no-deps" in line for line in found["asked"] if "--editable" in line) and any(
        "--editable" in line for line in found["asked"]
    )


def test_the_book_is_found_after_a_change_of_folder(repository, tmp_path):
    (tmp_path / "here").mkdir()
    found = run([first_cell(CHAPTERS[0], repository)], tmp_path / "here", tmp_path)
    assert found["lib"].startswith(str(tmp_path / "here" / "book" / "lib"))


def test_without_an_address_a_copy_says_what_to_do(tmp_path):
    with pytest.raises(AssertionError, match="clone the book"):
        run([first_cell(CHAPTERS[0], "")], tmp_path, tmp_path)
