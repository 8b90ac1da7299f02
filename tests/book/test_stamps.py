"""The committed chapters: executed with the code they hold, clean, small, and listed alike everywhere."""

import json
import re
from pathlib import Path

import pytest
import yaml

from lib import ROOT
from lib.book import edition, notebooks
from lib.book.front.headlines import MOSAIC, TABLE, table
from lib.book.front.mosaic import ledger_address, mosaic
from lib.book.ledger import of_chapter
from lib.book.notebooks import Project
from lib.claims.entries import claims
from lib.runs.store import Store
from lib.studies import CHAPTERS

PROJECT = Project()
WRITTEN = [chapter for chapter in CHAPTERS if PROJECT.source(chapter).exists()]
LISTING = re.compile(r"^(`{3,})python\n(.*?)\n\1\n\n\[(lib/[^\]]+\.py)\]\(\.\./\3\)", flags=re.MULTILINE | re.DOTALL)

#: Bytes of a notebook without its indentation, which is a quarter of some files and says nothing of what readers load.
LARGEST = 400_000

#: The same for the chapter that lists all claims, for each of them.
EACH_CLAIM = 3_000

chapters = pytest.mark.parametrize("chapter", WRITTEN, ids=[chapter.slug for chapter in WRITTEN])


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_chapters_are_the_same_in_the_registry_in_quarto_and_on_disk():
    listed = yaml.safe_load((ROOT / "_quarto.yml").read_text())["book"]["chapters"]
    registered = [f"chapters/{chapter.slug}.ipynb" for chapter in CHAPTERS]
    assert [name for name in listed if name.startswith("chapters/")] == registered
    assert sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "chapters").glob("*.ipynb")) == sorted(registered)


def test_no_stamp_is_stale():
    assert edition.stale(Project(chapters=tuple(WRITTEN))) == []


def test_the_first_page_tells_what_the_chapters_tell():
    entries = [
        entry for chapter in WRITTEN for entry in of_chapter(chapter, "cpu", Store(ROOT / "data" / "results", Path("none")), PROJECT)
    ]
    told = table(ROOT, entries)
    assert (ROOT / TABLE).read_text(encoding="utf-8") == told, "`make edition` writes it"
    assert [chapter.slug for chapter in WRITTEN if f"chapters/{chapter.slug}.ipynb" not in told] == []
    assert (ROOT / MOSAIC).read_text(encoding="utf-8") == mosaic(entries, ledger_address(WRITTEN)), "`make edition` writes it"


@chapters
def test_a_committed_notebook_is_clean(chapter):
    path = PROJECT.source(chapter)
    notebook = notebooks.read(path)
    largest = EACH_CLAIM * len(claims()) if chapter.summarises else LARGEST
    assert len(json.dumps(notebook, ensure_ascii=False, separators=(",", ":")).encode()) < largest
    shown = json.dumps(outputs(notebook))
    for trace in (str(ROOT), "/home/", "/root/", "/Users/", "/tmp/", "it/s]"):
        assert trace not in shown, f"{chapter.slug} shows {trace!r}"
    again = notebooks.finished(notebooks.read(path), chapter, notebook.metadata.book.parameters, ROOT)
    again.metadata.book.lib = notebook.metadata.book.lib
    assert again == notebook, "written by something else than `make edition`"
    assert not any("injected-parameters" in notebooks.tags(cell) for cell in notebook.cells)


@chapters
def test_a_committed_notebook_shows_no_error_and_no_warning(chapter):
    for output in outputs(notebooks.read(PROJECT.source(chapter))):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")


@chapters
def test_sources_listed_in_a_chapter_are_still_those_of_the_library(chapter):
    def stripped(text):
        return "\n".join(line.strip() for line in text.splitlines())

    found = 0
    for output in outputs(notebooks.read(PROJECT.source(chapter))):
        for _, code, file in LISTING.findall(output.get("data", {}).get("text/markdown", "")):
            found += 1
            assert stripped(code) in stripped((ROOT / file).read_text()), f"{file} has changed: run `make edition`"
    assert found, "a chapter lists the library code it is about"


@chapters
def test_figures_and_tables_are_labelled_and_described(chapter):
    for cell in notebooks.read(PROJECT.source(chapter)).cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get("application/vnd.plotly.v1+json")
            if figure:
                assert re.search(r"^#\| label: fig-", cell.source, flags=re.MULTILINE), cell.source[:80]
                assert re.search(r"^#\| fig-cap: \S", cell.source, flags=re.MULTILINE), cell.source[:80]
                assert figure["layout"]["meta"]["alt"] and figure["layout"]["meta"]["provenance"]


def test_labels_are_unique_in_the_book():
    assert notebooks.repeated_labels({c.slug: notebooks.read(PROJECT.source(c)) for c in WRITTEN}) == []
