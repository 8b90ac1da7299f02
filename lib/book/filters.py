"""The book's own presentation of an executed notebook: Quarto pipes each chapter through this script.

Notebooks store ordinary Jupyter outputs, so that they look right in Jupyter, VS Code and Colab.  What a page
of the book needs beyond that is done here: parameters as they were used, figures that are drawn by a local
plotly.js and say in words what they show, tables without scripts, links to the notebook itself.

Notebook JSON comes on standard input and goes to standard output.  Only the standard library is imported:
Quarto may start this with any Python 3.
"""

from __future__ import annotations

import ast
import html
import json
import re
import sys
from pathlib import Path

if __name__ == "__main__":  # Quarto starts this file, not the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lib.book.notes import FINDING, below, missing_once, note_html, said_once, typeset

PLOTLY = "application/vnd.plotly.v1+json"
FIGURE_HEIGHT = 420  # pixels, of a figure whose layout states none

PLUMBING = (
    "## Parameters and set-up {.unnumbered}\n\nIn the notebook these cells come first: what can be changed, and what the others need."
)

#: In the metadata of the output that tells readers of the notebook itself what :func:`add_chapter_line` tells those of the page.
EXECUTED = "executed"

Cell = dict
Notebook = dict


def present(notebook: Notebook, repository: str = "") -> Notebook:
    """``notebook`` as the book shows it; ``repository`` is the address of its repository or empty."""
    stamp = notebook["metadata"].get("book", {})
    notebook["metadata"].pop("papermill", None)
    notebook["cells"] = merge_parameters(notebook["cells"], stamp.get("parameters", {}))
    seeds = said_once(notebook["cells"])
    missing_once(notebook["cells"])
    figures, cells = 0, []
    for cell in notebook["cells"]:
        drop_run_metadata(cell)
        cell_outputs, notes = below(cell.get("outputs", []), repository)
        outputs = []
        for output in cell_outputs:
            if PLOTLY in output.get("data", {}):
                figures += 1
            outputs.append(present_output(output, f"figure-{figures}", repository))
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs
        cells.append(cell)
        if notes:
            cells.append({"cell_type": "markdown", "id": f"{cell.get('id', 'cell')}-below", "metadata": {}, "source": ["\n\n".join(notes)]})
    for cell in cells:
        if cell["cell_type"] == "markdown":
            set_source(cell, typeset(source(cell)))
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}) and not (words := text_of(output["data"]["text/markdown"])).startswith("`````"):
                output["data"]["text/markdown"] = typeset(words)
    add_chapter_line(cells, stamp, repository, seeds)
    notebook["cells"] = plumbing_last(cells)
    if repository:
        link_sources(notebook["cells"], repository)
    return notebook


def drop_run_metadata(cell: Cell) -> None:
    """Times of a run would end in the page and make every rendering differ."""
    kept = {name: value for name, value in cell["metadata"].items() if name not in ("papermill", "execution")}
    if not kept.get("tags", True):
        del kept["tags"]
    cell["metadata"] = kept


# Parameters


def merge_parameters(cells: list[Cell], effective: dict) -> list[Cell]:
    """Show the values that were used in the parameters cell itself.

    They come from the cell that papermill injects, which is left out here, or from the stamp of an
    executed chapter (``effective``).  Comments and type hints of the parameters cell stay; the output that names
    other values than it holds goes.
    """
    values = {name: json.dumps(value) if isinstance(value, str) else repr(value) for name, value in effective.items()}
    for cell in cells:
        if "injected-parameters" in tags(cell):
            values |= {name: text for name, text, _ in assignments(source(cell))}
    shown = [cell for cell in cells if not {"injected-parameters", "papermill-error-cell-tag"} & tags(cell)]
    for cell in shown:
        if "parameters" in tags(cell):
            code = with_values(source(cell), values)
            title = "" if "#| code-summary" in code else "#| code-summary: Parameters\n"
            set_source(cell, title + code)
            cell["outputs"] = [output for output in cell.get("outputs", []) if EXECUTED not in output.get("metadata", {})]
            break
    return shown


def assignments(code: str) -> list[tuple[str, str, tuple[int, int]]]:
    """(name, text of the value, its (start, end) in ``code``) for each plain or annotated assignment."""
    starts = [0]
    encoded = code.encode()
    for line in encoded.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        value = statement.value
        if isinstance(target, ast.Name) and value is not None:
            span = starts[value.lineno - 1] + value.col_offset, starts[value.end_lineno - 1] + value.end_col_offset
            found.append((target.id, encoded[slice(*span)].decode(), span))
    return found


def with_values(code: str, values: dict[str, str]) -> str:
    """``code`` with the values of its assignments replaced; unknown names are added at its end."""
    encoded = code.encode()
    present_names = set()
    for name, _, (start, end) in reversed(assignments(code)):
        present_names.add(name)
        if name in values:
            encoded = encoded[:start] + values[name].encode() + encoded[end:]
    added = [f"{name} = {value}" for name, value in values.items() if name not in present_names]
    return "\n".join([encoded.decode(), *added])


def plumbing_last(cells: list[Cell]) -> list[Cell]:
    """Move the cells that set a chapter up to the end of its page, so that it opens with what was found.

    They run first, of course.  A chapter that states no finding is left as it is.
    """
    moved = [cell for cell in cells if is_plumbing(cell)]
    if not moved or not any(
        text_of(output.get("data", {}).get("text/markdown", "")).startswith(FINDING) for cell in cells for output in cell.get("outputs", [])
    ):
        return cells
    heading = {"cell_type": "markdown", "id": "plumbing", "metadata": {}, "source": [PLUMBING]}
    return [*(cell for cell in cells if not is_plumbing(cell)), heading, *moved]


def is_plumbing(cell: Cell) -> bool:
    """Whether a cell sets parameters, opens the results or imports, and shows nothing of the chapter's subject."""
    summary = re.search(r"^#\| code-summary: \"?(\w[\w-]*)", source(cell), flags=re.MULTILINE)
    return cell["cell_type"] == "code" and (
        bool({"parameters", "colab"} & tags(cell)) or bool(summary) and summary[1] in ("Set-up", "Imports")
    )


# Outputs


def present_output(output: dict, figure_id: str, repository: str = "") -> dict:
    """One output as the book shows it; what needs nothing comes back unchanged."""
    if output["output_type"] == "error":
        return markdown_output(stopped_here(output))
    if output["output_type"] == "stream":
        return output | {"text": without_overwritten(text_of(output["text"]))}
    data = output.get("data", {})
    if PLOTLY in data:
        return markdown_output(raw_html(figure_html(data[PLOTLY], figure_id, repository)), output.get("metadata"))
    if "text/html" in data and "text/markdown" not in data:
        return markdown_output(raw_html(table_html(text_of(data["text/html"]))), output.get("metadata"))
    return output


def markdown_output(text: str, metadata: dict | None = None) -> dict:
    return {"output_type": "display_data", "metadata": metadata or {}, "data": {"text/markdown": text}}


def raw_html(text: str) -> str:
    """HTML that Pandoc passes through.  As ``text/html`` it would make Quarto load jQuery from elsewhere."""
    return fenced(text, "{=html}")


def fenced(text: str, info: str = "") -> str:
    """``text`` as a block that ends where it should, whatever fences it holds itself."""
    fence = "`" * max(5, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{info}\n{text}\n{fence}"


def figure_html(figure: dict, figure_id: str, repository: str = "") -> str:
    """A plotly figure as a place to draw in, its data, and a line that says where they come from.

    ``layout.meta`` holds the words: "alt" (what a reader who cannot see the figure is told),
    "provenance" and "runs", the way back to code and result files.  ``assets/book.js`` draws the figure and writes the data as CSV.
    """
    layout = dict(figure.get("layout", {}))
    meta = dict(layout.get("meta") or {})
    runs = meta.pop("runs", None) or {}
    if "meta" in layout:
        layout["meta"] = meta
    alt = meta.get("alt") or title_of(layout) or "Interactive figure"
    height = layout.get("height") or FIGURE_HEIGHT
    content = {"data": figure.get("data", []), "layout": layout, "config": {"displaylogo": False}}
    offer = '<button type="button" class="book-data" aria-label="Download the data of this figure as CSV">data (CSV)</button>'
    note = note_html(str(meta.get("provenance") or ""), runs, repository, offer)
    return (
        f'<div class="book-figure" id="{figure_id}">\n'
        f'<div class="book-plot" role="figure" aria-label="{html.escape(alt)}" style="height:{int(height)}px">'
        f'<p class="book-plot-words">{html.escape(alt)}</p></div>\n'
        f'<script type="application/json">{script_json(content)}</script>\n'
        f"{note}\n</div>"
    )


def title_of(layout: dict) -> str:
    title = layout.get("title") or {}
    text = title if isinstance(title, str) else title.get("text") or ""
    return re.sub(r"<[^>]*>", "", text)


def script_json(value) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/").replace("<!--", "<\\!--")


def table_html(text: str) -> str:
    """An HTML output without pandas' inline style, its tables scrollable where the page is narrow."""
    text = re.sub(r"<style scoped>.*?</style>\s*", "", text, flags=re.DOTALL).replace(' border="1"', "")
    return re.sub(r"<table\b.*?</table>", lambda match: f'<div class="book-table">{match[0]}</div>', text, flags=re.DOTALL)


def stopped_here(output: dict) -> str:
    """An error in a chapter that could not be executed to its end, without the terminal's colour codes."""
    name, value = output.get("ename", ""), output.get("evalue", "")
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.get("traceback", [])))
    return (
        f"::: {{.callout-important}}\n## This chapter stopped here\n\n"
        f"{fenced(f'{name}: {value}')}\n\n"
        + raw_html(f"<details><summary>Traceback</summary><pre>{html.escape(trace)}</pre></details>")
        + "\n:::"
    )


def without_overwritten(text: str) -> str:
    """What a terminal would show in the end: a progress bar that redraws itself leaves one line."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


# Links


def add_chapter_line(cells: list[Cell], stamp: dict, repository: str, seeds: int = 0) -> None:
    """Below the chapter's title: its notebook, Colab where there is an address for it, and what was run."""
    if "chapter" not in stamp:
        return
    name = f"{stamp['chapter']}.ipynb"
    # Quarto would turn a link to chapters/{name} into one to the page, and warns of files that are not there yet:
    # the notebook is copied, and data-href becomes href, after it rendered.
    parts = [f'<a data-href="../notebooks/{name}" download="{name}">Download notebook</a>']
    if repository.startswith("https://github.com/"):
        where = repository.removeprefix("https://github.com/")
        parts.append(f'<a href="https://colab.research.google.com/github/{where}/blob/main/chapters/{name}">Open in Colab</a>')
    scale, version = html.escape(stamp["scale"]), html.escape(stamp["lib"])
    parts.append(f"<span>Run at scale <b>{scale}</b> with library {version}</span>")
    if seeds:
        parts.append(f"<span>± is half of a 95 % interval over {seeds} runs where no other number stands</span>")
    line = raw_html(f'<p class="chapter-line">{" ".join(parts)}</p>')
    for cell in cells:
        if cell["cell_type"] == "markdown" and (title := re.search(r"^# .*$", source(cell), flags=re.MULTILINE)):
            text = source(cell)
            set_source(cell, f"{text[: title.end()]}\n\n{line}\n{text[title.end() :]}")
            return


def link_sources(cells: list[Cell], repository: str) -> None:
    """Let links to the library's files lead to the repository, where they have history and line numbers."""

    def address(match: re.Match) -> str:
        line = f"#L{match['line']}" if match["line"] else ""
        return f"]({repository}/blob/main/{match['path']}{line}){match['rest'] or ''}"

    def linked(text: str) -> str:
        return re.sub(r"\]\(\.\./(?P<path>lib/[^)\s]+)\)(?P<rest>, line (?P<line>\d+))?", address, text)

    for cell in cells:
        if cell["cell_type"] == "markdown":
            set_source(cell, linked(source(cell)))
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = linked(text_of(output["data"]["text/markdown"]))


def repository_address(variables: Path) -> str:
    """The ``repository:`` line of ``_variables.yml``; empty where it is not set."""
    text = variables.read_text(encoding="utf-8") if variables.exists() else ""
    match = re.search(r"""^repository:\s*["']?(https?://[^\s"'#]+)""", text, flags=re.MULTILINE)
    return match[1].rstrip("/").removesuffix(".git") if match else ""


# Notebook format


def tags(cell: Cell) -> set[str]:
    return set(cell["metadata"].get("tags", []))


def text_of(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def source(cell: Cell) -> str:
    return text_of(cell["source"])


def set_source(cell: Cell, text: str) -> None:
    cell["source"] = text.splitlines(keepends=True)


def main() -> None:
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    repository = repository_address(Path(__file__).resolve().parents[2] / "_variables.yml")
    json.dump(present(json.load(sys.stdin), repository), sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
