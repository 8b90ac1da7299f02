"""A dark style sheet without what the light one says already.

Quarto writes two complete sheets of half a megabyte and, for a dark page, lays the dark one over the light one.  Most rules
stand in both: they are read twice and change nothing.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: What a page of Quarto's says when dark mode switches the light sheet off; then the dark one has to stay whole.
NOT_LAYERED = "disableStylesheet(primaryStylesheets)"

#: Rules that hold other rules.
NESTING = ("@media", "@supports", "@container", "@layer")

#: Properties that a shorthand of another name sets too, by its family.
ALSO = {
    "line": "font",
    "top": "inset",
    "right": "inset",
    "bottom": "inset",
    "left": "inset",
    "align": "place",
    "justify": "place",
    "row": "gap",
    "columns": "column",
}

#: One step through a sheet: a comment, a string, something in brackets, or any other character.
PIECE = re.compile(r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\((?:[^()"']|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')*\)|.""", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """``text`` of a statement or of a rule that is not looked into; else declarations, or rules inside ``selector``."""

    selector: str
    text: str = ""
    declarations: tuple[str, ...] = ()
    inside: tuple[Rule, ...] = ()


def thin(dark: str, light: str) -> str:
    """The rules of ``dark`` that say something when they are laid over ``light``.

    Properties of a family (``border-…``) that both sheets declare alike, in the same places and order, are left out of the
    dark one: the last word on them is the same with and without.  Where one declaration differs, all of its family stay.
    """
    rules = list(parse(dark))
    mine, theirs = declared(rules), declared(list(parse(light)))
    differing = {name for name in mine if mine[name] != theirs.get(name)}
    return "".join(written(rule, differing) for rule in rules)


def parse(css: str) -> Iterator[Rule]:
    """The rules of a sheet, in order.  Raises ValueError for one that does not end."""
    head, depth, body = "", 0, ""
    for match in PIECE.finditer(css):
        piece = match[0]
        if piece.startswith("/*"):
            continue
        if piece == "{":
            depth += 1
            if depth == 1:
                continue
        elif piece == "}":
            depth -= 1
            if depth == 0:
                yield rule(head.strip(), body)
                head, body = "", ""
                continue
        elif piece == ";" and depth == 0:
            yield Rule(head.strip(), text=f"{head.strip()};")
            head = ""
            continue
        if depth:
            body += piece
        else:
            head += piece
    if depth or head.strip():
        raise ValueError(f"the style sheet ends inside a rule: {(head + body)[-60:]!r}")


def rule(selector: str, body: str) -> Rule:
    if selector.startswith(NESTING):
        return Rule(selector, inside=tuple(parse(body)))
    if selector.startswith("@"):
        return Rule(selector, text=f"{selector}{{{body}}}")
    return Rule(selector, declarations=tuple(declarations(body)))


def declarations(body: str) -> Iterator[str]:
    found = ""
    for match in PIECE.finditer(body):
        if match[0] == ";":
            yield found.strip()
            found = ""
        else:
            found += match[0]
    if found.strip():
        yield found.strip()


def family(declaration: str) -> str:
    """The properties that may overrule this one: those whose names begin alike.  A variable stands alone."""
    name = declaration.partition(":")[0].strip().lower()
    if name.startswith("--"):
        return name
    first = re.sub(r"^-(webkit|moz|ms|o)-", "", name).partition("-")[0]
    return ALSO.get(first, first)


def declared(rules: list[Rule], around: str = "") -> dict[str, list[tuple[str, str, str]]]:
    """Every declaration by family, as (what is around it, selector, declaration); other rules by themselves."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for one in rules:
        if one.text:
            found[one.text].append((around, "", ""))
        for declaration in one.declarations:
            found[family(declaration)].append((around, one.selector, declaration))
        for name, entries in declared(list(one.inside), f"{around}{one.selector} ").items():
            found[name] += entries
    return found


def written(one: Rule, families: set[str]) -> str:
    """The rule with the declarations of ``families`` only; nothing where none is left."""
    if one.text:
        return one.text if one.text in families else ""
    body = ";".join(declaration for declaration in one.declarations if family(declaration) in families)
    body += "".join(written(inner, families) for inner in one.inside)
    return f"{one.selector}{{{body}}}" if body else ""


def thin_dark_sheets(book: Path) -> None:
    """Shorten the dark Bootstrap sheets of a rendered book, as far as its pages lay them over the light ones."""
    if any(NOT_LAYERED in page.read_text(encoding="utf-8") for page in book.rglob("*.html")):
        return
    for dark in book.glob("site_libs/bootstrap/bootstrap-dark-*.min.css"):
        light = [path for path in dark.parent.glob("bootstrap-*.min.css") if not path.name.startswith("bootstrap-dark-")]
        if len(light) == 1:
            dark.write_text(thin(dark.read_text(encoding="utf-8"), light[0].read_text(encoding="utf-8")), encoding="utf-8")
