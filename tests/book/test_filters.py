"""The notebook filter: what a page of the book shows beyond what Jupyter shows."""

import html
import json
import re
import subprocess
import sys

import pytest

from lib import ROOT
from lib.book.filters import present, present_output, repository_address, text_of, with_values
from lib.book.notes import FOLDED, typeset
from samplebook import first

FIGURE = {
    "data": [{"type": "scatter", "name": "</script><b>", "x": [1, 2], "y": [3, 4]}],
    "layout": {"meta": {"alt": 'Rises from "3" to 4 & stops.', "provenance": "2 runs < 3 · seeds 0, 1"}},
    "config": {"plotlyServerURL": "https://example.org"},
}


def code(source, outputs=(), **metadata):
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": metadata, "execution_count": 1}


def text(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def notebook(*cells, **stamp):
    return {"cells": list(cells), "metadata": {"book": stamp} if stamp else {}, "nbformat": 4, "nbformat_minor": 5}


def output(**data):
    return {"output_type": "display_data", "metadata": {}, "data": data}


def plotly(figure):
    return output(**{"application/vnd.plotly.v1+json": figure, "text/plain": "Figure"})


def shown(cell):
    return "".join(cell["source"])


PARAMETERS = 'scale: str = "laptop"   # größe: smoke | laptop\nseeds: int | None = None\nknob = 4  # a knob\n'


def test_injected_parameters_appear_in_the_parameters_cell():
    injected = code('# Parameters\nscale = "gpu"\nseeds = 3\nextra = [1, 2]\n', tags=["injected-parameters"])
    cells = present(notebook(code(PARAMETERS, tags=["parameters"]), injected, code("use(scale)")))["cells"]
    assert [shown(cell) for cell in cells] == [
        "#| code-summary: Parameters\n"
        'scale: str = "gpu"   # größe: smoke | laptop\nseeds: int | None = 3\nknob = 4  # a knob\n\nextra = [1, 2]',
        "use(scale)",
    ]


def test_parameters_of_a_stamped_chapter_are_shown():
    cells = present(
        notebook(code(PARAMETERS, tags=["parameters"]), chapter="01-x", scale="cpu", lib="0.1.0", parameters={"scale": "cpu", "knob": 7})
    )["cells"]
    assert 'scale: str = "cpu"' in shown(cells[0]) and "knob = 7  # a knob" in shown(cells[0])


def test_values_may_span_lines_and_stand_after_other_statements():
    code_text = "x = (1,\n     2)\nimport os\ny: float = 0.5; z = 1"
    assert with_values(code_text, {"x": "(3,)", "y": "1.5", "z": "9"}) == "x = (3,)\nimport os\ny: float = 1.5; z = 9"


def test_times_of_a_run_and_error_marks_are_dropped():
    cell = code("1", papermill={"duration": 1.0}, execution={"iopub.status.busy": "now"}, tags=[])
    mark = text('<span style="color:red">An Exception was encountered</span>')
    mark["metadata"] = {"tags": ["papermill-error-cell-tag"]}
    presented = present(notebook(cell, mark) | {"metadata": {"papermill": {"duration": 2.0}}})
    assert presented["metadata"] == {} and [c["metadata"] for c in presented["cells"]] == [{}]


def test_a_figure_has_words_data_and_provenance_and_nothing_from_elsewhere():
    data = present_output(plotly(FIGURE), "figure-1")["data"]
    assert list(data) == ["text/markdown"]
    page = data["text/markdown"]
    assert page.startswith("`````{=html}\n") and page.endswith("\n`````")
    assert 'role="figure" aria-label="Rises from &quot;3&quot; to 4 &amp; stops."' in page
    assert '<span class="book-provenance">2 runs &lt; 3 · seeds 0, 1</span>' in page
    assert "http" not in page
    script = re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)[1]
    assert json.loads(script)["data"] == FIGURE["data"]


def test_a_figure_leads_to_the_code_and_the_files_of_its_runs():
    command = "python -m lib run moe --scale cpu --study 'a <b'"
    runs = {"code": ["lib/studies/moe/vit.py"], "commands": [command], "names": {"moe-vit": ["0123456789abcdef", "<b>"]}, "more": 3}
    figure = FIGURE | {"layout": FIGURE["layout"] | {"meta": {"alt": "Words.", "runs": runs}}}
    here = present_output(plotly(figure), "figure-1")["data"]["text/markdown"]
    assert '<a href="../lib/studies/moe/vit.py">lib/studies/moe/vit.py</a>' in here and "<code>0123456789abcdef</code>" in here
    assert f"<code>{html.escape(command)}</code>" in here
    assert "<code><b>" not in here and "and 3 more" in here and "python -m lib show" in here
    assert '"runs"' not in here, "what is in words is not in the figure's data too"
    there = present_output(plotly(figure), "figure-1", "https://github.com/owner/name")["data"]["text/markdown"]
    assert 'href="https://github.com/owner/name/blob/main/data/results/moe-vit/0123456789abcdef.json"' in there
    assert 'href="https://github.com/owner/name/blob/main/lib/studies/moe/vit.py"' in there
    assert "book-runs" not in present_output(plotly(FIGURE), "figure-1")["data"]["text/markdown"]


def test_what_stands_below_a_cell_gets_a_cell_of_its_own():
    """In a cell with a caption Quarto would make figures (a) and (b) of two outputs."""
    noted = output(**{"text/markdown": "| a |"})
    noted["metadata"] = {"book": {"provenance": "2 results", "runs": {"code": [], "names": {"toy": ["k1"]}, "more": 0}}}
    told = output(**{"text/markdown": ["**Result.** A leads."]})
    cell, below = present(notebook(code("1") | {"outputs": [noted, told]}))["cells"]
    assert [text_of(one["data"]["text/markdown"]) for one in cell["outputs"]] == ["| a |"] and "book" not in cell["outputs"][0]["metadata"]
    assert below["cell_type"] == "markdown" and "**Result.** A leads." in shown(below) and "<code>k1</code>" in shown(below)


def test_the_usual_number_of_runs_is_said_once():
    parts = [
        output(**{"text/markdown": "1.0 ± 0.1 (n=3), 2.0 ± 0.1 (n=3)"}),
        output(**{"text/markdown": "**Result.** 4.0 ± 0.1 (n=5), 3 ± 1 (n=3)."}),
    ]
    title, cell, below = present(notebook(text("# Title"), code("1") | {"outputs": parts}, **STAMP))["cells"]
    assert "over 3 runs" in shown(title)
    assert [one["data"]["text/markdown"] for one in cell["outputs"]] == [typeset("1.0 ± 0.1, 2.0 ± 0.1")]
    assert typeset("4.0 ± 0.1 (n=5), 3 ± 1.") in shown(below), "in the sentence below the figure too"


def test_numbers_stay_with_their_units_and_code_as_it_is():
    s = "\N{NO-BREAK SPACE}"
    told = typeset("44.3 ± 3.1 % of 30%, +1.2 points `x % 3` $5 % 2$ <svg width=\"9%\"> [a](b%20c)\n```python\nf'{y:.1%}' 7 % 2\n```\n 5%")
    assert told.startswith(f'44.3{s}±{s}3.1{s}% of 30{s}%, +1.2{s}points `x % 3` $5 % 2$ <svg width="9%"> [a](b%20c)')
    assert "f'{y:.1%}' 7 % 2" in told and told.endswith(f" 5{s}%")


def test_a_figure_without_description_is_named_by_its_title():
    bare = {"data": [], "layout": {"title": {"text": "<b>Load</b> per expert"}, "height": 300.0}}
    page = present_output(plotly(bare), "figure-1")["data"]["text/markdown"]
    assert 'aria-label="Load per expert"' in page and "height:300px" in page and "book-provenance" not in page


def test_html_tables_become_markdown_without_style():
    html = '<div>\n<style scoped>\n .dataframe {}\n</style>\n<table border="1" class="dataframe"><tr><td>1</td></tr></table>\n</div>'
    data = present_output(output(**{"text/html": [html[:9], html[9:]], "text/plain": "1"}), "")["data"]
    assert list(data) == ["text/markdown"]
    page = data["text/markdown"]
    assert '<div class="book-table"><table class="dataframe">' in page and "<style" not in page


def test_an_error_cannot_leave_its_block():
    error = {"output_type": "error", "ename": "E", "evalue": "`````\n\n`````{=html}\n<script>1</script>\n`````", "traceback": []}
    made = present_output(error, "f")["data"]["text/markdown"]
    begin, end = (match.start() for match in re.finditer(r"^``````$", made, flags=re.MULTILINE))
    assert begin < made.index("<script>") < end


def test_an_error_says_that_the_chapter_stopped():
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no <b>", "traceback": ["\x1b[0;31mat\x1b[0m <b>"]}
    page = present_output(error, "")["data"]["text/markdown"]
    assert "ValueError: no <b>" in page and "<pre>at &lt;b&gt;</pre>" in page and "\x1b" not in page


def test_a_progress_bar_leaves_its_last_line():
    stream = {"output_type": "stream", "name": "stdout", "text": ["  1%|\r", " 50%|\r100%|\n", "done\n"]}
    assert present_output(stream, "")["text"] == "100%|\ndone\n"


STAMP = {"chapter": "01-x", "scale": "gpu", "lib": "0.1.0", "parameters": {}}


def test_colab_is_linked_only_where_the_repository_has_an_address():
    def line(address):
        return shown(present(notebook(text("# Title {#sec-x}\n\nWords."), **STAMP), address)["cells"][0])

    for address in ("", "https://git.example.org/o/n", "https://github.com/o/n"):
        assert line(address).startswith('# Title {#sec-x}\n\n`````{=html}\n<p class="chapter-line">')
        assert line(address).endswith("Words.") and '<a data-href="../notebooks/01-x.ipynb" download' in line(address)
    assert "colab" not in line("") and "colab" not in line("https://git.example.org/o/n")
    colab = 'href="https://colab.research.google.com/github/o/n/blob/main/chapters/01-x.ipynb"'
    assert colab in line("https://github.com/o/n")


def test_sources_lead_to_the_repository_once_it_has_an_address():
    listing = "[lib/runs/scales.py](../lib/runs/scales.py), line 7. See [this](../lib/runs/store.py)."

    def linked(address):
        cells = present(notebook(text(listing), code("", [output(**{"text/markdown": listing})])), address)["cells"]
        assert shown(cells[0]) == cells[1]["outputs"][0]["data"]["text/markdown"]
        return shown(cells[0])

    assert linked("") == listing
    assert linked("https://github.com/o/n") == (
        "[lib/runs/scales.py](https://github.com/o/n/blob/main/lib/runs/scales.py#L7), line 7. "
        "See [this](https://github.com/o/n/blob/main/lib/runs/store.py)."
    )


@pytest.mark.parametrize(
    "line, address",
    [
        ("", ""),
        ('repository: ""', ""),
        ("repository:", ""),
        ("# repository: https://github.com/o/n", ""),
        ("repository: https://github.com/o/n.git  # ours", "https://github.com/o/n"),
        ('repository: "https://github.com/o/n/"', "https://github.com/o/n"),
    ],
)
def test_the_repository_setting(tmp_path, line, address):
    (tmp_path / "_variables.yml").write_text(f"edition: 1\n{line}\n")
    assert repository_address(tmp_path / "_variables.yml") == address


def test_it_runs_under_a_bare_python_and_changes_nothing_twice():
    """Quarto starts the script with any Python 3; ``-I -S`` hides all installed packages."""

    def filtered(content):
        return subprocess.run(
            [sys.executable, "-I", "-S", ROOT / "lib" / "book" / "filters.py"],
            input=content,
            text=True,
            capture_output=True,
            check=True,
            encoding="utf-8",
        ).stdout

    once = filtered(json.dumps(first()))
    assert json.loads(filtered(once)) == json.loads(once)


def one_cell(text, *tags, markdown=None):
    outputs = [{"output_type": "display_data", "metadata": {}, "data": {"text/markdown": markdown}}] if markdown else []
    return {
        "cell_type": "code",
        "id": "x",
        "metadata": {"tags": list(tags)} if tags else {},
        "outputs": outputs,
        "execution_count": None,
        "source": [text],
    }


def test_a_page_opens_with_what_was_found_and_ends_with_its_plumbing():
    title = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": ["# Title"]}
    cells = [
        title,
        one_cell("scale = 1", "parameters"),
        one_cell("import sys", "colab"),
        one_cell('#| code-summary: "Set-up: check the parameters, open the results"\nbook = 1', markdown="Scale **cpu**."),
        one_cell('#| code-fold: true\n#| code-summary: "Imports"\nimport math'),
        one_cell("finding(x)", markdown="**Finding.** It works."),
        one_cell("import torch\nprint(torch)"),
    ]
    shown = ["".join(cell["source"]) for cell in present({"metadata": {}, "cells": [dict(cell) for cell in cells]})["cells"]]
    order = [
        next(i for i, text in enumerate(shown) if part in text)
        for part in ("# Title", "finding(x)", "print(torch)", "Parameters and set-up", "scale = 1", "book = 1", "import math")
    ]
    assert order == sorted(order)
    without = [cell for cell in cells if "finding" not in cell["source"][0]]
    shown = ["".join(cell["source"]) for cell in present({"metadata": {}, "cells": [dict(cell) for cell in without]})["cells"]]
    assert not any("Parameters and set-up" in text for text in shown) and "print(torch)" in shown[-1]


def test_what_is_missing_is_said_once_below_the_table_that_lacks_it():
    def lacks(count):
        return output(**{"text/markdown": [FOLDED, f"{count} of 9 results were not run at this scale.</summary>\n\n- `a`\n\n</details>"]})

    table = output(**{"text/markdown": "| a |"})
    opening = code("opening", [output(**{"text/markdown": "**Finding.** It is."}), lacks(3)])
    cells = present(notebook(opening, code("one", [table, lacks(3)]), code("two", [table, lacks(3)]), code("three", [lacks(4)])))["cells"]
    assert [len(cell["outputs"]) for cell in cells if cell["cell_type"] == "code"] == [1, 1, 1, 0]
    assert [cell["cell_type"] for cell in cells[:2]] == ["code", "code"], "the first is below the table"
    below = [shown(cell) for cell in cells if cell["cell_type"] == "markdown"]
    assert [re.search(r"Missing: (\d) of 9", note)[1] for note in below] == ["3", "4"]
    assert all(note.startswith("::: {.book-missing}\n<details>") for note in below)
