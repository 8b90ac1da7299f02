"""Style sheets without the rules that no page of the book can use.

Quarto gives every page all of Bootstrap, half a megabyte, and the rules of two thousand icons of which it shows a handful.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lib.book.sheets.dark import Rule, parse

#: Classes that scripts put together from pieces: they may come into use though no file spells them.
COMPOSED = ("aa-", "quarto-", "tippy-", "anchorjs", "headroom")

#: The sheets that are looked through, and where names can come into use: the index of the search is text, not code.
SHEETS = "site_libs/bootstrap/*.css"
USERS = ("**/*.html", "site_libs/**/*.js", "assets/*.js")

NAME = re.compile(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)")
WORD = re.compile(r"[\w-]+")

#: What stands in a selector's brackets may be a negation or a choice: its names are not asked for.
BRACKETS = re.compile(r"\((?:[^()]|\([^()]*\))*\)|\[[^\]]*\]")


def lean_sheets(book: Path) -> None:
    """Shorten the sheets of a rendered book to what its pages and scripts name."""
    words: set[str] = set()
    for kind in USERS:
        for file in book.glob(kind):
            words.update(WORD.findall(file.read_text(encoding="utf-8")))
    for sheet in book.glob(SHEETS):
        sheet.write_text(lean(sheet.read_text(encoding="utf-8"), words), encoding="utf-8")


def lean(css: str, words: set[str]) -> str:
    """The sheet's rules whose classes and ids are all among ``words``, in order."""
    return "".join(spelled(one) for one in kept(parse(css), words))


def kept(rules: Iterable[Rule], words: set[str]) -> Iterable[Rule]:
    for one in rules:
        if one.text:
            yield one
        elif one.inside or one.selector.startswith("@"):
            if inside := tuple(kept(one.inside, words)):
                yield replace(one, inside=inside)
        elif used := [part for part in parts(one.selector) if names(part) <= words]:
            yield replace(one, selector=",".join(used))


def names(selector: str) -> set[str]:
    """Classes and ids that an element and those around it must have for this selector; an icon's without its ``bi-``, which scripts add."""
    found = (re.sub(r"\\(.)", r"\1", name) for name in NAME.findall(BRACKETS.sub("", selector)))
    return {name.removeprefix("bi-") for name in found if not name.startswith(COMPOSED)}


def parts(selectors: str) -> list[str]:
    """A list of selectors taken apart at the commas that are in no bracket."""
    found, depth = [""], 0
    for letter in selectors:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def spelled(one: Rule) -> str:
    return one.text or f"{one.selector}{{{';'.join(one.declarations)}{''.join(map(spelled, one.inside))}}}"
