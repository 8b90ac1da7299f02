"""Pieces of Markdown that Jupyter, Colab and Quarto all take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def escaped(text: str) -> str:
    """Text for one cell of a pipe table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


#: What may begin a tag, a link, raw code or a formula in Markdown, and the entity that shows it.
ENTITIES = {ord(character): f"&#{ord(character)};" for character in "&<>[]`$\\"}


NUMBERS = (float, int)


def harmless(value: Any) -> Any:
    """JSON data whose texts mean nothing but themselves in Markdown and HTML, keys included."""
    if isinstance(value, str):
        return value.translate(ENTITIES)
    if isinstance(value, dict):
        return {harmless(name): harmless(part) for name, part in value.items()}
    if isinstance(value, list):
        return [part if type(part) in NUMBERS else harmless(part) for part in value]  # most lists are long and of numbers
    return value


def pipe_table(header: Iterable[str], rows: Iterable[Iterable[str]], widths: Iterable[int], right: Iterable[bool] | None = None) -> str:
    """A Markdown table; pandoc takes the relative widths of wrapped columns from the dashes.

    right: which columns stand right, none by default.
    """
    header = [escaped(name) for name in header]
    rules = [
        "-" * (width - 1) + ":" if stands_right else ":" + "-" * (width - 1)
        for width, stands_right in zip((max(3, width) for width in widths), right or [False] * len(header))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rules, *rows])


def details(summary: str, body: str, is_open: bool = False) -> str:
    """A block the reader can fold, in Markdown that Jupyter, Colab and Quarto all take."""
    return f"<details{' open' if is_open else ''}>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"
