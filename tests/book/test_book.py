"""Chapters are executed in parallel, one that fails harms no other, and what is written is clean."""

import dataclasses
import io
import json
import re
import subprocess
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from rich.console import Console

import lib
from lib.book import build as book
from lib.book import edition, notebooks, render
from lib.book.bars import shown
from lib.book.execute import Execution, Failure, execute
from lib.book.filters import present
from lib.book.front import headlines
from lib.book.notebooks import Project, code_hash, finished, know_address, repeated_labels
from lib.runs.scales import PLANNED, REPLAYS, cannot_run
from lib.runs.spec import Spec
from lib.runs.store import Store, obtain
from samplebook import CHAPTERS, KERNEL, SampleChapter, SampleParameters, write_book
from store_specs import Logged


@pytest.fixture
def no_quarto(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("QUARTO_PATH", raising=False)
    monkeypatch.setattr(render.shutil, "which", lambda *words, **more: None)


class Links(HTMLParser):
    """Addresses a page links to or loads, and the anchors it has."""

    def __init__(self, page):
        super().__init__()
        self.links, self.loads, self.anchors, self.alt = [], [], set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.anchors.add(values["id"])
        if values.get("role") == "figure":
            self.alt.append(values["aria-label"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "script" and "src" in values:
            self.loads.append(values["src"])
        elif tag == "link":
            self.loads.append(values["href"])


def said(console):
    return console.file.getvalue()


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def test_a_failing_chapter_harms_no_other_and_without_quarto_a_linked_preview_is_made(tmp_path, console, no_quarto, capsys):
    project = Project(tmp_path, write_book(tmp_path, "01-first", "02-second", "03-failing"))
    assert book.build("smoke", jobs=2, parameters={"knob": 6}, project=project, console=console) == 1

    told = said(console)
    assert re.search(r"01-first +\d+\.\d s\n", told) and re.search(r"03-failing +\d+\.\d s  STOPPED", told)
    assert "03-failing stopped at cell 4 (1 / (knob - knob))\n  ZeroDivisionError: division by zero" in told
    assert "papermill chapters/03-failing.ipynb _build/smoke/chapters/03-failing.ipynb -p scale smoke -p knob 6" in told
    assert f"preview: {tmp_path}/_book/index.html" in told
    assert "Quarto was not found" in capsys.readouterr().out

    pages = {path.relative_to(project.book).as_posix(): Links(path.read_text()) for path in project.book.rglob("*.html")}
    assert set(pages) == {"index.html", "references.html", "chapters/01-first.html", "chapters/02-second.html", "chapters/03-failing.html"}
    for name, page in pages.items():
        for address in [link for link in page.links if "://" not in link] + page.loads:
            path, _, anchor = address.partition("#")
            target = (project.book / name).parent.joinpath(path).resolve() if path else project.book / name
            assert target.is_relative_to(project.book.resolve()) and target.exists(), f"{name} leads to {address}"
            if anchor:
                assert anchor in pages[target.relative_to(project.book.resolve()).as_posix()].anchors, address
    assert pages["chapters/01-first.html"].alt == ["Two rising curves; sparse ends above dense."]
    text = (project.book / "chapters/01-first.html").read_text()
    assert "<math" in text and "#|" not in text
    assert ">Figure 1.1</a>" in text and ">Sample and Other 2020</a>" in text and ":::" not in text
    assert "This chapter stopped here" in (project.book / "chapters/03-failing.html").read_text()
    assert (project.book / "assets/plotly.min.js").stat().st_size > 1_000_000

    executed = notebooks.read(project.build("smoke") / "chapters/01-first.ipynb")
    assert executed.metadata.book == {
        "chapter": "01-first",
        "scale": "smoke",
        "parameters": {"scale": "smoke", "knob": 6},
        "lib": lib.__version__,
        "code": code_hash(CHAPTERS["01-first"]()),
    }
    assert str(tmp_path) not in json.dumps(executed) and "papermill" not in json.dumps(executed)

    # Only the second chapter again: the first is shown as it was executed, the failing one too.
    first = (project.book / "chapters/01-first.html").read_bytes()
    assert book.build("smoke", only=project.chapters[1:2], project=project, console=console) == 0
    second = notebooks.read(project.build("smoke") / "chapters/02-second.ipynb")
    assert second.metadata.book.parameters == {"scale": "smoke"}
    assert notebooks.read(project.build("smoke") / "chapters/01-first.ipynb") == executed
    assert (project.book / "chapters/01-first.html").read_bytes() == first  # no id is drawn at random


def test_parameters_are_checked_before_anything_starts(tmp_path, console):
    project = Project(tmp_path, write_book(tmp_path, "01-first"))
    with pytest.raises(ValueError, match="unknown parameter 'knbo'. Did you mean 'knob'"):
        book.build("smoke", parameters={"knbo": 3}, project=project, console=console)
    with pytest.raises(TypeError, match="'knob' takes int, not 'x'"):
        book.build("smoke", parameters={"knob": "x"}, project=project, console=console)
    with pytest.raises(ValueError, match="unknown scale 'smoek'"):
        book.build("smoek", project=project, console=console)
    assert not (tmp_path / "_build").exists() and said(console) == ""


def test_a_missing_notebook_is_named(tmp_path, console, capsys):
    project = Project(tmp_path, write_book(tmp_path, "01-first"))
    project.source(project.chapters[0]).unlink()
    assert book.build("smoke", project=project, console=console) == 1
    assert "no such notebook: " in capsys.readouterr().err


class Watcher:
    """Is told of everything and does nothing."""

    def __getattr__(self, name):
        return lambda *words: None


def one_cell_chapter(root, code):
    project = Project(root, write_book(root, "01-first"))
    nbformat.write(new_notebook(metadata=KERNEL, cells=[new_code_cell(code)]), project.source(project.chapters[0]))
    return project, {project.chapters[0]: {"scale": "smoke"}}


def runs(pid):
    """Whether a process works; one that has ended and that nobody has asked about yet (a zombie) does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_stopping_leaves_no_process_behind(tmp_path):
    project, parameters = one_cell_chapter(
        tmp_path,
        """
import json, os, time
with open(os.environ["BOOK_PROGRESS"], "a") as events:
    events.write(json.dumps(os.getpid()) + "\\n")
time.sleep(3600)""",
    )
    kernels = []

    class Impatient(Watcher):
        def spec(self, chapter, event):
            kernels.append(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(project, project.chapters, parameters, project.build("smoke"), 1, Impatient())
    # A kernel whose papermill had to be killed notices within a second; on a loaded machine this takes longer.
    deadline = time.monotonic() + 120
    while runs(kernels[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not runs(kernels[0])


def test_a_kernel_that_dies_is_a_failure_with_a_reason(tmp_path):
    project, parameters = one_cell_chapter(tmp_path, "import os\nos._exit(1)")
    [execution] = execute(project, project.chapters, parameters, project.build("smoke"), 1, Watcher())
    failure = execution.failure
    assert (failure.cell, failure.code) == (1, "import os") and "Kernel died" in failure.error


def test_a_chapter_that_summarises_waits_for_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    chapters = write_book(tmp_path, "01-first", "02-second")
    chapters = (dataclasses.replace(chapters[0], summarises=True), chapters[1])
    order = []

    class Listener(Watcher):
        def started(self, chapter, cells):
            order.append(("started", chapter.slug))

        def ended(self, execution):
            order.append(("ended", execution.chapter.slug))

    project = Project(tmp_path, chapters)
    executions = execute(project, chapters, {chapter: {"scale": "smoke"} for chapter in chapters}, project.build("smoke"), 2, Listener())
    assert order == [("started", "02-second"), ("ended", "02-second"), ("started", "01-first"), ("ended", "01-first")]
    assert [execution.chapter.slug for execution in executions] == ["01-first", "02-second"]


def test_a_study_that_is_planned_takes_no_scale_from_the_others(tmp_path, monkeypatch):
    """Most studies decide, by half of their results each; and an edition replays what is there, without running what is planned."""
    made = [Spec(seed=seed) for seed in range(6)]

    class Module:
        Parameters = staticmethod(lambda scale: scale)

        @staticmethod
        def studies(scale):
            return {"a": made[:2], "b": made[2:3], "planned": made[3:]} if scale == "cpu" else {"a": [*made, Spec(seed=6)], "none": []}

    class There:
        def get_reference(self, spec):
            return spec in made[:3]

    one = SimpleNamespace(summarises=False, module=Module)
    assert edition.best_scale(one, There()) == "cpu"
    monkeypatch.setattr(There, "get_reference", lambda self, spec: spec in (made[0], made[2]))
    assert edition.best_scale(one, There()) == "cpu", "a study of which one of two results is stored is there"
    monkeypatch.setattr(There, "get_reference", lambda self, spec: spec in (made[0], made[3]))
    assert edition.best_scale(one, There()) == "laptop", "one of three is too few"
    monkeypatch.setenv(REPLAYS, "1")
    assert cannot_run("cpu") == PLANNED and cannot_run("laptop") is None
    monkeypatch.delenv(REPLAYS)
    assert cannot_run("cpu") is None


def test_an_edition_promotes_results_and_is_the_same_twice(tmp_path, console, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    root = tmp_path / "book"
    root.mkdir()
    write_book(root, "02-second", "03-failing")
    chapters = (Studied(2, "02-second", "second", "Second"), Studied(3, "03-failing", "failing", "Failing"))
    project, store = Project(root, chapters), Store(root / "data/results", tmp_path / "runs")
    last = dataclasses.replace(chapters[1], summarises=True)
    assert edition.best_scale(chapters[0], store) == edition.best_scale(last, store, chapters) == "laptop"
    obtain(edition.specs_of(chapters[0], "cpu"), store=store, device="cpu")
    before = project.source(chapters[1]).read_bytes()

    def make():
        assert edition.make_edition(project=project, store=store, console=console) == 1  # the third fails
        return project.source(chapters[0]).read_bytes()

    made = make()
    assert "02-second: scale cpu, 2 results to data/results" in said(console)
    assert len(list((root / "data/results").rglob("*.json"))) == 2
    assert edition.best_scale(last, store, chapters) == "cpu"
    assert project.source(chapters[1]).read_bytes() == before, "a chapter that stops is not committed"
    assert make() == made
    notebook = json.loads(made)
    assert notebook["metadata"]["book"]["scale"] == "cpu" and edition.stale(Project(root, chapters[:1])) == []
    assert all(isinstance(cell["source"], list) for cell in notebook["cells"])

    changed = notebooks.read(project.source(chapters[0]))
    changed.cells[2].source = changed.cells[2].source.replace("a matrix", "a grid")  # a caption
    notebooks.write(changed, project.source(chapters[0]))
    assert edition.stale(Project(root, chapters[:1])) == []
    changed.cells[2].source += "\nprint(1)"
    notebooks.write(changed, project.source(chapters[0]))
    assert edition.stale(project) == [
        "02-second has changed since it was executed: `make edition` refreshes it",
        "03-failing is not stamped: `make edition` executes it",
    ]


def test_the_first_page_has_a_row_for_each_finding(tmp_path):
    project = Project(tmp_path, write_book(tmp_path, "01-first", "02-second"))
    path = tmp_path / "chapters" / "02-second.ipynb"
    notebook = notebooks.read(path)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for text in ("Scale **smoke**.", "**Finding.** It reaches\n41 %.", "**Finding.** Another."):
        cell.outputs.append(new_output("display_data", {"text/markdown": text}))
    notebooks.write(notebook, path)
    headlines.write_headlines(tmp_path, project, "smoke")
    rows = (tmp_path / "_headlines.md").read_text().splitlines()
    assert rows[2:] == ["| [Second chapter](chapters/02-second.ipynb) | It reaches 41\N{NO-BREAK SPACE}%. |  |"]
    assert (tmp_path / "_mosaic.md").read_text() == "\n", "a book without claims has no mosaic"
    assert (tmp_path / "_findings.md").read_text() == "\n", "and no finding is put before the others"
    before = (tmp_path / "_headlines.md").stat().st_mtime_ns
    headlines.write_headlines(tmp_path, project, "smoke")
    assert (tmp_path / "_headlines.md").stat().st_mtime_ns == before


class Studied(SampleChapter):
    """A sample chapter with two results at scale cpu and, until someone makes them, one at scale gpu."""

    @property
    def module(self):
        names = {"cpu": ("one", "two"), "gpu": ("big",)}
        return SimpleNamespace(
            Parameters=SampleParameters,
            studies=lambda parameters: {"main": [Logged(name=name) for name in names.get(parameters.scale, ())]},
        )


def test_a_notebook_says_at_which_scale_it_was_executed_and_its_page_says_it_once(tmp_path):
    cells = [new_markdown_cell("# T"), new_code_cell('scale = "laptop"\nknob = 1', metadata={"tags": ["parameters"]}), new_code_cell("a")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    done = finished(notebook, SampleChapter(1, "01-x", "x", "X"), {"scale": "cpu", "knob": "b"}, tmp_path)
    (told,) = done.cells[1].outputs
    assert told.data["text/plain"] == "Executed at scale cpu, knob 'b'." and not done.cells[2].outputs
    assert code_hash(done) == code_hash(notebook)
    nbformat.validate(done)
    again = finished(done, SampleChapter(1, "01-x", "x", "X"), {"scale": "gpu"}, tmp_path)
    assert [out.data["text/plain"] for out in again.cells[1].outputs] == ["Executed at scale gpu."]
    again.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stdout", text="its own"))
    page = present(json.loads(nbformat.writes(again)))
    assert [out["text"] for cell in page["cells"] for out in cell.get("outputs", ())] == ["its own"]
    assert json.dumps(page).count("scale <b>gpu</b>") == 1 and "Executed at" not in json.dumps(page)


def test_finished_notebooks_are_clean_and_named_alike(tmp_path):
    cells = [
        new_markdown_cell("# T"),
        new_code_cell("a"),
        new_code_cell("a"),
        new_code_cell("scale = 'x'", metadata={"tags": ["injected-parameters"]}),
    ]
    for cell in cells[:3]:
        cell.pop("id")
    pieces = [
        ("stdout", "1%\r100%\nsaved "),
        ("stdout", f"{tmp_path}/runs/a.json in {tmp_path}\n"),
        ("stderr", "beware"),
        ("stdout", "end"),
    ]
    cells[1].outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces]
    cells[2].metadata = {"papermill": {"duration": 1}, "execution": {}, "tags": []}
    cells[2].execution_count = 7
    notebook = nbformat.from_dict({"nbformat": 4, "nbformat_minor": 5, "cells": cells, "metadata": {"papermill": {}, "widgets": {}}})
    done = finished(notebook, SampleChapter(1, "01-x", "x", "X"), {"scale": "smoke"}, tmp_path)
    assert [out.text for out in done.cells[1].outputs] == ["100%\nsaved runs/a.json in .\n", "beware", "end"]
    assert [cell.get("execution_count") for cell in done.cells] == [None, 1, 2]
    assert done.cells[2].metadata == {} and set(done.metadata) == {"kernelspec", "language_info", "book"}
    ids = [cell.id for cell in done.cells]
    assert len(set(ids)) == 3 and ids[2] == f"{ids[1]}-2"
    nbformat.validate(done)


def test_labels_defined_twice_are_reported():
    one, two = CHAPTERS["01-first"](), CHAPTERS["02-second"]()
    assert notebooks.labels(one) == ["sec-first", "eq-first-loss", "fig-first-curves", "tbl-first-runs"]
    assert repeated_labels({"1": one, "2": two}) == []
    two.cells[0].source += " {#fig-first-curves}"
    assert repeated_labels({"1": one, "2": two}) == ["label fig-first-curves is defined 2 times (1, 2)"]


def test_quarto_is_found_where_it_is_named_and_must_be_new_enough(tmp_path, monkeypatch):
    quarto = tmp_path / "quarto"
    monkeypatch.setenv("QUARTO_PATH", str(tmp_path))
    for version, usable in (("1.7.34", True), ("2.0.1", True), ("1.10.3", True), ("1.6.42", False)):
        quarto.write_text(f"#!/bin/sh\necho {version}\n")
        quarto.chmod(0o755)
        found, why = render.find_quarto()
        assert (found == str(quarto)) == usable and (why == "") == usable
    assert why == f"{quarto} is Quarto 1.6.42, and 1.7 is needed"
    quarto.write_text("#!/bin/sh\nexit 3\n")
    assert render.find_quarto()[0] is None


EVENTS = [
    {"spec": "moe a=1", "done": 0, "total": 2, "fraction": 0.5, "text": "epoch 1"},
    {"spec": "moe a=1", "done": 1, "total": 2, "fraction": 1.0, "text": "ran"},
    {"spec": "moe a=2", "done": 2, "total": 2, "fraction": 1.0, "text": "replayed"},
]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_drawn_in_a_terminal_and_told_in_lines_elsewhere(tmp_path, terminal):
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    one, two = SampleChapter(1, "01-x", "x", "X"), SampleChapter(2, "02-y", "y", "Y")
    with shown(console) as watcher:
        for chapter in (one, two):
            watcher.started(chapter, 9)
        watcher.cell(one, 4)
        for event in EVENTS:
            watcher.spec(one, event)
            if terminal:
                watcher.progress.refresh()
        watcher.ended(Execution(one, 12.4, tmp_path, ""))
        watcher.ended(Execution(two, 3.0, tmp_path, "", Failure(1, "x", "Error: [bold]")))
    if terminal:
        for words in ("cell 4 of 9", "0/2  epoch 1  moe a=1", "done", "stopped"):
            assert words in said(console)
    else:
        assert said(console).splitlines() == [
            "01-x  started",
            "02-y  started",
            "01-x  [1/2] moe a=1",
            "01-x  executed after 12 s",
            "02-y  stopped after 3 s",
        ]


def test_the_address_reaches_the_cell_that_colab_runs():
    cell = nbformat.v4.new_code_cell('_repository = ""   # why', metadata={"tags": ["colab"]})
    other = nbformat.v4.new_code_cell('_repository = ""')
    know_address([cell, other], "https://github.com/someone/book")
    assert cell.source == '_repository = "https://github.com/someone/book"   # why' and other.source == '_repository = ""'
