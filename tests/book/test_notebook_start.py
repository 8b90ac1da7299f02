"""The first cells of a chapter find this book's library, wherever Jupyter or papermill was started."""

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from conftest import ROOT
from lib.book import notebooks
from lib.book.notebooks import Project

PROJECT = Project()


def first_cell(chapter):
    """What runs before the first import from lib, as plain Python."""
    (cell,) = (cell for cell in notebooks.read(PROJECT.source(chapter)).cells if "colab" in notebooks.tags(cell))
    return TransformerManager().transform_cell(cell.source)


@pytest.mark.parametrize("make", [lambda folder: (folder / "__init__.py").touch(), lambda folder: None], ids=["package", "folder"])
def test_a_folder_called_lib_does_not_hide_the_library(python, tmp_path, make):
    (tmp_path / "lib").mkdir()
    make(tmp_path / "lib")
    start = f"import os, sys; os.chdir({str(tmp_path)!r}); sys.path.insert(0, '')\n"  # as IPython does
    done = python("-c", start + first_cell(PROJECT.chapters[0]) + "\nimport lib; print(lib.__file__)", PYTHONPATH=ROOT)
    assert done.stdout.strip() == str(ROOT / "lib" / "__init__.py"), done.stderr


def test_all_chapters_see_to_it():
    assert all(
        first_cell(chapter).splitlines()[-2:] == first_cell(PROJECT.chapters[0]).splitlines()[-2:]
        for chapter in PROJECT.chapters
        if PROJECT.source(chapter).exists()
    )
