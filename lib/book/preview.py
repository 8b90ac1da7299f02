"""A plain but readable book without Quarto: nbconvert's pages, linked with each other.

Chapters go through the book's own filter first, so figures, parameters and tables look as they do in the
book.  What only Quarto understands in the text (labels, references, citations, callouts) becomes plain
Markdown; numbered captions, search and the dark theme's switch are left to Quarto.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import yaml
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from lib.book import notebooks
from lib.book.filters import present, repository_address
from lib.book.notebooks import Project
from lib.book.postrender import with_download
from lib.claims.bibliography import Reference, read

#: A file that Quarto puts in its place.
INCLUDE = re.compile(r"^\{\{< include (\S+) >\}\}$", flags=re.MULTILINE)

CODE_BLOCK = re.compile(r"(^(`{3,}|~{3,}).*?^\2[`~]*[ \t]*$)", flags=re.MULTILINE | re.DOTALL)


def render(project: Project, folder: Path) -> Path:
    """Write the preview of the book staged in ``folder`` to ``folder/_preview`` and return that folder."""
    made = folder / "_preview"
    shutil.rmtree(made, ignore_errors=True)
    for name in ("assets", "lib"):
        shutil.copytree(folder / name, made / name)
    write_highlighting(made / "assets" / "preview.css")

    repository = repository_address(folder / "_variables.yml")
    references = read(folder / "references.bib")
    pages = {"index": text_page(folder / "index.qmd")}
    for name in ("chapters", "notebooks"):
        (made / name).mkdir()
    for chapter in project.chapters:
        path = folder / "chapters" / f"{chapter.slug}.ipynb"
        shutil.copyfile(path, made / "notebooks" / path.name)
        presented = present(json.loads(path.read_text(encoding="utf-8")), repository)
        pages[f"chapters/{chapter.slug}"] = nbformat.reads(json.dumps(presented), as_version=4)
    pages["references"] = reference_list(references)

    links = {label: link for name, page in pages.items() for label, link in labelled(name, page).items()}
    links |= {key: Link(f"references.html#{key}", cited(reference)) for key, reference in references.items()}
    listed = [(title_of(page), f"{name}.html") for name, page in pages.items()]
    exporter = Pages(template_name="preview", extra_template_basedirs=[str(folder / "assets")])
    for name, page in pages.items():
        up = "../" * name.count("/")
        resources = {"book": {"title": title_of(page), "page": f"{name}.html", "pages": listed, "up": up}}
        body, _ = exporter.from_notebook_node(plain_notebook(page, up, links), resources)
        (made / f"{name}.html").write_text(with_download(body), encoding="utf-8")
    return made


@dataclass(frozen=True)
class Link:
    """Where a label or a citation leads, and what a reader sees of it."""

    target: str
    text: str


def labelled(name: str, page: NotebookNode) -> dict[str, Link]:
    """Labels of a page; figures, tables and equations are numbered as Quarto would number them."""
    number = re.match(r"chapters/0*(\d+)", name)
    kinds = {"fig": "Figure", "tbl": "Table", "eq": "Equation"}
    counts: Counter[str] = Counter()
    links = {}
    for label in notebooks.labels(page):
        kind = label.partition("-")[0]
        counts[kind] += 1
        text = f"{kinds[kind]} {number[1] if number else 0}.{counts[kind]}" if kind in kinds else heading(page, label)
        links[label] = Link(f"{name}.html#{label}", text)
    return links


def heading(page: NotebookNode, label: str) -> str:
    text = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    match = re.search(rf"^#+ (.*?)\s*\{{#{re.escape(label)}\b", text, flags=re.MULTILINE)
    return match[1] if match else label


# Pages


class Pages(HTMLExporter):
    """nbconvert's HTML with formulas as MathML, so that nothing is loaded from elsewhere."""

    def markdown2html(self, source: str) -> str:
        renderer = Renderer(escape=False, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(source)


class Renderer(IPythonRenderer):
    """Formulas become MathML, and blocks of raw HTML as the filter writes them are kept."""

    def block_code(self, code: str, info: str | None = None) -> str:
        return code if info == "{=html}" else super().block_code(code, info)

    def inline_math(self, body: str) -> str:
        return formula(body, "inline")

    def block_math(self, body: str) -> str:
        return formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def formula(body: str, display: str) -> str:
    try:
        return mathml(body.strip(), display=display)
    except Exception:  # whatever the converter does not know: its own errors have no common base
        return f"<code>{escape(body)}</code>"


def text_page(path: Path) -> NotebookNode:
    text = INCLUDE.sub(lambda match: (path.parent / match[1]).read_text(encoding="utf-8"), path.read_text(encoding="utf-8"))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def title_of(page: NotebookNode) -> str:
    for cell in page.cells:
        if match := re.search(r"^# (.*?)\s*(\{[^}]*\})?$", cell.source, flags=re.MULTILINE):
            return match[1]
    return "Untitled"


def plain_notebook(page: NotebookNode, up: str, links: dict[str, Link]) -> NotebookNode:
    """The page with its Quarto Markdown made plain and its cell options carried out; ``up`` leads to the index."""

    def plain(text: str) -> str:
        return plain_markdown(text, up, links)

    def plain_output(output: NotebookNode) -> NotebookNode:
        text = output.get("data", {}).get("text/markdown")
        return output if text is None else output | {"data": {"text/markdown": plain(text)}}

    cells = []
    for cell in page.cells:
        if cell.cell_type == "code":
            options, code = split_options(cell.source)
            if options.get("include") is False:
                continue
            outputs = [] if options.get("output") is False else [plain_output(output) for output in cell.outputs]
            label, caption = options.get("label"), options.get("fig-cap") or options.get("tbl-cap")
            if label:
                cells.append(nbformat.v4.new_markdown_cell(f'<a id="{label}"></a>'))
            if options.get("echo") is False:
                code = ""
            cells.append(cell | {"source": code, "outputs": outputs})
            if caption:
                number = f"**{links[label].text}:** " if label in links else ""
                cells.append(nbformat.v4.new_markdown_cell(number + plain(caption)))
        elif cell.cell_type == "markdown":
            cells.append(cell | {"source": plain(cell.source)})
    # Ids that nbformat draws at random would make each build of the same book another one.
    cells = [cell | {"id": f"cell-{place}"} for place, cell in enumerate(cells)]
    return nbformat.from_dict(page | {"cells": cells})


def split_options(code: str) -> tuple[dict[str, Any], str]:
    """The ``#| name: value`` lines that begin a cell, and the code below them."""
    lines = code.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    options = yaml.safe_load("\n".join(line[2:].strip() for line in lines[:count])) or {}
    return options, "\n".join(lines[count:])


def plain_markdown(text: str, up: str, links: dict[str, Link]) -> str:
    """Markdown without what only Quarto understands; code blocks stay as they are."""
    parts = CODE_BLOCK.split(text)
    # Each match leaves three parts: the text before it, the whole block, its fence.
    texts, blocks = parts[0::3], [*parts[1::3], ""]
    return "".join(plain_text(text, up, links) + block for text, block in zip(texts, blocks, strict=True))


def plain_text(text: str, up: str, links: dict[str, Link]) -> str:
    def reference(match: re.Match) -> str:
        link = links.get(match[1])
        return f"[{link.text}]({up}{link.target})" if link else match[0]

    def attributes(match: re.Match) -> str:
        label = re.search(r"#([\w-]+)", match[0])
        return f' <a id="{label[1]}"></a>' if label else ""

    def block(match: re.Match) -> str:
        classes = " ".join(re.findall(r"[.]([\w-]+)", match[1]))
        return f'\n<div class="{classes}">\n'

    text = re.sub(r"^:{3,}\s*\{([^}]*)\}\s*$", block, text, flags=re.MULTILINE)
    text = re.sub(r"^:{3,}\s*$", "\n</div>\n", text, flags=re.MULTILINE)
    text = re.sub(r"\{\{<.*?>\}\}", "", text)
    text = re.sub(r"(?<=\$\$)\s*\{#eq-[^}]*\}", lambda m: "\n\n" + attributes(m).strip(), text)
    text = re.sub(r"(?<=[\w.?!)`])[ \t]*\{[#.][^}\n]*\}[ \t]*$", attributes, text, flags=re.MULTILINE)
    return re.sub(r"(?<![\w@])@([A-Za-z][\w:.-]*\w)", reference, text)


# References


def cited(reference: Reference) -> str:
    """ "Sample and Other 2020", as a citation in the text."""
    names = [name.split()[-1] for name in reference.authors]
    return f"{names[0] + ' et al.' if len(names) > 2 else ' and '.join(names)} {reference.year}"


def reference_list(references: dict[str, Reference]) -> NotebookNode:
    lines = ["# References", ""]
    for key, reference in sorted(references.items()):
        said = ["; ".join(reference.authors), str(reference.year), f"*{reference.title}*", reference.venue, reference.link]
        lines.append(f'- <a id="{key}"></a>[{key}] ' + ". ".join(part for part in said if part))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("\n".join(lines))])


def write_highlighting(stylesheet: Path) -> None:
    """Add the colours of code, for light and dark."""
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    with open(stylesheet, "a", encoding="utf-8") as out:
        out.write(f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n")
