"""A chapter's cells tell its story: functions in them are its subject, everything else is made beside its studies."""

import ast

import pytest

from lib import ROOT
from lib.book import notebooks
from lib.book.notebooks import Project, page_hash
from lib.studies import CHAPTERS, Chapter

#: Functions that a cell may define because they are what the page is about.  What picks rows, builds tables or formats belongs
#: into ``lib/studies/<chapter>/page.py``.
SUBJECTS = {
    "moe": {"gap"},
    "growth": {"moved", "next_token", "copies_apart", "experts_apart"},
    "pruning": {"steps", "freeze"},
    "privacy": {"corrected_p"},
    "benchmarks": {"equally_good", "passed", "print_state"},
}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.slug)
def test_cells_define_what_the_page_is_about_and_nothing_else(chapter):
    cells = notebooks.read(Project().source(chapter)).cells
    # The set-up on Colab has commands of the notebook's own, which Python cannot read.
    trees = [ast.parse(c.source) for c in cells if c.cell_type == "code" and "colab" not in notebooks.tags(c)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]
    assert sorted(found) == sorted(SUBJECTS.get(chapter.subject, ())), f"move it to lib/studies/{chapter.subject}/page.py"


@pytest.mark.parametrize("path", sorted((ROOT / "lib/studies").glob("*/page*")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_pages_show_says_what_it_returns(path):
    for file in [path] if path.is_file() else path.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                assert (ast.get_docstring(node) or "").startswith("Return "), f"{file.name}: {node.name}"


def test_a_page_file_that_changes_makes_its_chapter_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    chapter = Chapter(1, "01-first", "first", "First")
    notebook = notebooks.nbformat.v4.new_notebook(cells=[notebooks.nbformat.v4.new_code_cell("1 + 1")])
    assert page_hash(chapter) is None
    made = notebooks.finished(notebook, chapter, {"scale": "smoke"}, tmp_path)
    assert "page" not in made.metadata.book and not notebooks.is_stale(made.metadata.book, made, chapter)

    folder = tmp_path / "lib/studies/first"
    (folder / "page").mkdir(parents=True)
    for name in ("page.py", "page_tables.py", "page/rows.py"):
        (folder / name).write_text("one = 1\n")
        assert notebooks.is_stale(made.metadata.book, made, chapter), name
        made = notebooks.finished(notebook, chapter, {"scale": "smoke"}, tmp_path)
        assert not notebooks.is_stale(made.metadata.book, made, chapter), name
    (folder / "studies.py").write_text("two = 2\n")
    assert not notebooks.is_stale(made.metadata.book, made, chapter), "what a study runs is in its results' addresses"
