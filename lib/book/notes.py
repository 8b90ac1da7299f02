"""What is shown below figures and tables: where they come from, and the sentence that says what they show.

Only the standard library is imported: the filter that uses this may run with any Python 3.
"""

from __future__ import annotations

import html
import re
from collections import Counter

#: How a chapter's finding begins, see :func:`lib.book.page.finding`.
FINDING = "**Finding.** "

#: How the sentence below a figure begins, see :func:`lib.book.page.conclude`.
RESULT = "**Result.** "

#: How the line begins that says what was not run, see :func:`lib.book.page.missing`.
MISSING = "Missing: "

#: That line's beginning as it is stored, folded over the names of what is missing.
FOLDED = f"<details>\n<summary>{MISSING}"

#: How many runs are behind a number.
SEEDS = re.compile(r"[ \N{NO-BREAK SPACE}]\(n=(\d+)\)")


def note_html(provenance: str, runs: dict, repository: str, before_runs: str = "") -> str:
    """Return the line below a figure or a table: where its numbers come from, and the way to each run."""
    # Texts of result files have their entities already.
    told = html.escape(html.unescape(provenance))
    line = f'<span class="book-provenance">{told}</span>' if told else ""
    return f'<div class="book-figure-note">{line}{before_runs}{runs_html(runs, repository)}</div>'


def runs_html(runs: dict, repository: str) -> str:
    """From a figure to the code that ran its results and to their files, folded; empty where nothing was run."""
    if not runs.get("names"):
        return ""

    def link(path: str, text: str) -> str:
        return (
            f'<a href="{html.escape(repository)}/blob/main/{html.escape(path)}">{html.escape(text)}</a>'
            if repository
            else html.escape(text)
        )

    code = ", ".join(
        link(path, path) if repository else f'<a href="../{html.escape(path)}">{html.escape(path)}</a>' for path in runs.get("code", ())
    )
    files = "".join(
        f"<dt>{html.escape(experiment)}</dt><dd>"
        + " ".join(f"<code>{link(f'data/results/{experiment}/{key}.json', key)}</code>" for key in keys)
        + "</dd>"
        for experiment, keys in runs["names"].items()
    )
    commands = "".join(f"<p><code>{html.escape(one)}</code> runs what is missing of this study.</p>" for one in runs.get("commands", ()))
    more = f"<p>and {runs['more']} more.</p>" if runs.get("more") else ""
    return (
        f'<details class="book-runs"><summary>runs</summary><p>Run by {code or "code that is gone"}. '
        f"<code>python -m lib show NAME</code> prints a result, its settings and the command that makes it again.</p>"
        f"{commands}<dl>{files}</dl>{more}</details>"
    )


def below(outputs: list[dict], repository: str) -> tuple[list[dict], list[str]]:
    """Return a cell's outputs without the sentence below its figure and what is missing there, and what goes below the cell, as Markdown.

    In a cell with a caption Quarto takes each output for a part of the figure, so what belongs below it gets a cell of its own.
    """
    kept, notes = [], []
    for output in outputs:
        text = output.get("data", {}).get("text/markdown", "")
        text = text if isinstance(text, str) else "".join(text)
        if text.startswith(RESULT):
            notes.append(f"::: {{.book-result}}\n{text}\n:::")
            continue
        if text.startswith(FOLDED):
            notes.append(f"::: {{.book-missing}}\n{text}\n:::")
            continue
        kept.append(output)
        source = output.get("metadata", {}).pop("book", None)
        if source:
            notes.append(f"`````{{=html}}\n{note_html(source.get('provenance', ''), source.get('runs', {}), repository)}\n`````")
    return kept, notes


def missing_once(cells: list[dict]) -> None:
    """Take out what a page says again of results that are missing: several tables and figures may show one study.

    It stays below the first of them, and in a chapter's opening, which has the finding, only where none shows the study.
    """

    def text_of(output: dict) -> str:
        return "".join(output.get("data", {}).get("text/markdown", ""))

    seen: set[str] = set()
    for cell in sorted(cells, key=lambda cell: any(text_of(output).startswith(FINDING) for output in cell.get("outputs", ()))):
        kept = []
        for output in cell.get("outputs", ()):
            text = text_of(output)
            if not text.startswith(FOLDED) or text not in seen:
                kept.append(output)
            if text.startswith(FOLDED):
                seen.add(text)
        if "outputs" in cell:
            cell["outputs"] = kept


def said_once(cells: list[dict]) -> int:
    """Take the number of runs that most numbers of a page have out of its text and return it; 0 where no number has one.

    The page says it once, in the line below its title; numbers with another count keep theirs.
    """
    texts = [data for cell in cells for output in cell.get("outputs", ()) if "text/markdown" in (data := output.get("data", {}))]
    for data in texts:
        data["text/markdown"] = data["text/markdown"] if isinstance(data["text/markdown"], str) else "".join(data["text/markdown"])
    counts = Counter(int(count) for data in texts for count in SEEDS.findall(data["text/markdown"]) if int(count) > 1)
    if not counts:
        return 0
    usual = counts.most_common(1)[0][0]
    for data in texts:
        data["text/markdown"] = SEEDS.sub(lambda match: "" if int(match[1]) == usual else match[0], data["text/markdown"])
    return usual


#: What is not prose: code in fences or in a line, formulas, tags and attributes, addresses of links.
VERBATIM = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|<[^>\n]*>|\]\([^)\s]*\)|\{[^}\n]*\})", re.DOTALL)


def typeset(text: str) -> str:
    """Return Markdown with per cent written in one way, and with numbers that no line end parts from ± and their unit."""

    def spaced(prose: str) -> str:
        prose = re.sub(r"(?<=\d)[ \N{NO-BREAK SPACE}]?%(?![\w%])", "\N{NO-BREAK SPACE}%", prose)
        prose = re.sub(r"(?<=\d) ± (?=\d)", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", prose)
        return re.sub(r"(?<=\d) (?=(?:points?|ms|MB|kB|GB|bits?|seeds?|TFLOPs)\b)", "\N{NO-BREAK SPACE}", prose)

    return "".join(part if place % 2 else spaced(part) for place, part in enumerate(VERBATIM.split(text)))
