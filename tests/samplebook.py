"""A small book for the tests of the book's machinery: the real settings and scripts, two made-up chapters."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lib import ROOT
from lib.studies import Chapter
from lib.studies.base.parameters import ChapterParameters

#: What Quarto needs of the real book to render another one.
SETTINGS = ("_quarto.yml", "_variables.yml", "index.qmd", "references.qmd", "references.bib")
SCRIPTS = (
    "book/notes.py",
    "__init__.py",
    "book/__init__.py",
    "book/filters.py",
    "book/sheets/__init__.py",
    "book/sheets/dark.py",
    "book/sheets/lean.py",
    "book/first_paint.py",
    "book/moved.py",
    "studies/__init__.py",
    "system/checks.py",
    "book/search_index.py",
    "book/prerender.py",
    "book/postrender.py",
    "runs/scales.py",
)

BIBLIOGRAPHY = """
@article{sample2020,
  author = {Sample, Ada and Other, Bo},
  title = {A paper that only the tests cite},
  journal = {Journal of Samples},
  year = {2020}
}
"""

FIGURE = """#| label: fig-{name}-curves
#| fig-cap: "Accuracy of two methods. See @sec-first and @sample2020."
import plotly.graph_objects as go
figure = go.Figure()
for method, colour in (("dense", "#4269d0"), ("sparse", "#ff725c")):
    figure.add_scatter(x=list(range(1, knob + 1)), y=[1 - 1 / (i + len(method)) for i in range(knob)], name=method,
                       mode="lines+markers", line_color=colour)
figure.update_layout(template="plotly_white", xaxis_title="epoch", yaxis_title="accuracy", height=360,
                     meta={{"alt": "Two rising curves; sparse ends above dense.",
                           "provenance": "2 runs · seeds 0, 1 · digits · commit 0123abc · torch 2.11"}})
figure.show()"""

HEATMAP = """#| label: fig-second-load
#| fig-cap: "Load per expert, a matrix that numpy made."
import numpy
import plotly.graph_objects as go
figure = go.Figure(go.Heatmap(z=numpy.arange(12.0).reshape(3, 4), colorscale="Viridis"))
figure.update_layout(template="plotly_white", meta={"alt": "A 3 by 4 grid of rising values."})
figure.show()"""

TABLE = """#| label: tbl-{name}-runs
#| tbl-cap: "A data frame, wide enough to scroll on a telephone."
import pandas as pd
measures = {{f"measure {{i}}": [0.5 + i, knob / 3] for i in range(9)}}
pd.DataFrame({{"method": ["dense", "sparse"], "scale": scale}} | measures)"""

PROSE = """from IPython.display import Markdown, display
display(Markdown(f"At scale **{scale}** the knob is {knob}: see @fig-first-curves, @tbl-first-runs and [@sample2020]. "
                 "The source is [`lib/runs/scales.py`](../lib/runs/scales.py).\\n\\n```python\\nknob = " + str(knob) + "\\n```"))
print("plain output")"""


def parameters_cell() -> nbformat.NotebookNode:
    cell = new_code_cell(
        'scale: str = "laptop"   # smoke | laptop | cpu | gpu\nrecompute: bool = False\nknob: int = 4            # points in the curve'
    )
    cell.metadata["tags"] = ["parameters"]
    return cell


def first() -> nbformat.NotebookNode:
    return new_notebook(
        metadata=KERNEL,
        cells=[
            new_markdown_cell(
                "# First chapter {#sec-first}\n\nWhat the reader will know, with a formula: $p_i = e^{h_i} / \\sum_j e^{h_j}$."
            ),
            parameters_cell(),
            new_markdown_cell("## Method\n\n$$ L = \\alpha E \\sum_i f_i P_i $$ {#eq-first-loss}\n\n@eq-first-loss is the loss."),
            new_code_cell(FIGURE.format(name="first")),
            new_code_cell(TABLE.format(name="first")),
            new_code_cell(PROSE),
            new_markdown_cell("::: {.callout-note}\n## A note\nIn words.\n:::"),
        ],
    )


def second() -> nbformat.NotebookNode:
    return new_notebook(
        metadata=KERNEL,
        cells=[
            new_markdown_cell("# Second chapter {#sec-second}\n\nIt follows @sec-first."),
            parameters_cell(),
            new_code_cell(HEATMAP),
            new_code_cell(PROSE),
        ],
    )


def failing() -> nbformat.NotebookNode:
    return new_notebook(
        metadata=KERNEL,
        cells=[
            new_markdown_cell("# Failing chapter {#sec-failing}\n\nIt stops."),
            parameters_cell(),
            new_code_cell("print('before')"),
            new_code_cell("1 / (knob - knob)"),
            new_code_cell("print('never')"),
        ],
    )


KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}


@dataclass(frozen=True, kw_only=True)
class SampleParameters(ChapterParameters):
    knob: int = 4


class SampleChapter(Chapter):
    """A chapter whose parameters are known and that has no experiments."""

    @property
    def module(self):
        return SimpleNamespace(Parameters=SampleParameters, studies=lambda parameters: {})


CHAPTERS = {"01-first": first, "02-second": second, "03-failing": failing}


def write_book(root: Path, *slugs: str) -> tuple[SampleChapter, ...]:
    """Write a book of the named sample chapters, not executed yet; returns their registry."""
    for name in SETTINGS:
        shutil.copyfile(ROOT / name, root / name)
    index = (root / "index.qmd").read_text()  # which links the real book's chapters
    (root / "index.qmd").write_text(re.sub(r"\[([^]]+)\]\(chapters/[^)]+\)", r"\1", index))
    for name in ("_findings.md", "_headlines.md", "_mosaic.md"):
        (root / name).touch()  # as the real book's it is there before anything is rendered
    shutil.copytree(ROOT / "assets", root / "assets")
    for name in SCRIPTS:
        (root / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "lib" / name, root / "lib" / name)
    (root / "chapters").mkdir()
    for slug in slugs:
        nbformat.write(CHAPTERS[slug](), root / "chapters" / f"{slug}.ipynb")
    settings = (root / "_quarto.yml").read_text()
    listed = "".join(f"    - chapters/{slug}.ipynb\n" for slug in slugs)
    settings, changed = re.subn(r"(    - chapters/\S+\.ipynb\n)+", lambda _: listed, settings)
    assert changed == 1, "_quarto.yml lists its chapters on consecutive lines"
    (root / "_quarto.yml").write_text(settings)
    with open(root / "references.bib", "a") as bibliography:
        bibliography.write(BIBLIOGRAPHY)
    return tuple(SampleChapter(int(slug[:2]), slug, slug[3:], slug[3:].title()) for slug in slugs)
