"""Style sheets without rules that no page of the book can use.

Quarto gives each page all of Bootstrap twice, light and dark, a megabyte, of which the book needs a fifth.  A rule goes where
one of its classes is named nowhere: in no page, and in no script as a word or, since scripts put names together, as the
beginning of one that ends in a hyphen.  Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"[A-Za-z_][\w-]*")

#: A class in a selector; what stands in brackets or after :not() asks for no class to be there.
CLASS = re.compile(r"\.((?:[\w-]|\\.)+)")
ASIDE = re.compile(r":not\([^)]*\)|\[[^\]]*\]")

#: Comments go first: the licence at the head names a web address, which looks like a class.
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

#: Scripts that hold no name of a class: the plotting library, and the book's own text.
NO_NAMES = ("plotly.min.js", "search-index.js")


def without_unused_rules(book: Path) -> None:
    """Rewrite Bootstrap's sheets in a rendered book, each without the rules that it has no use for."""
    names = used_names(book)
    for sheet in (book / "site_libs" / "bootstrap").glob("*.css"):
        sheet.write_text(purged(COMMENT.sub("", sheet.read_text(encoding="utf-8")), names), encoding="utf-8")


def used_names(book: Path) -> set[str]:
    """Every word of the pages and scripts that could be a class's name, or its beginning."""
    files = [*book.rglob("*.html"), *(path for path in book.rglob("*.js") if path.name not in NO_NAMES)]
    return {name for path in files for name in NAME.findall(path.read_text(encoding="utf-8", errors="ignore"))}


def purged(sheet: str, names: set[str]) -> str:
    """The style sheet without rules for classes that are not among ``names``; rules without classes stay."""
    kept = []
    for head, body in rules(sheet):
        at = head.lstrip()
        if body is None:
            kept.append(head)
        elif at.startswith(("@media", "@supports")):
            inner = purged(body, names)
            kept.append(f"{head}{{{inner}}}" if inner.strip() else "")
        elif at.startswith("@"):
            kept.append(f"{head}{{{body}}}")
        else:
            # Commas within parentheses part no selectors: such a rule stays or goes as a whole.
            selectors = [head] if "(" in head else head.split(",")
            wanted = [selector for selector in selectors if matches(selector, names)]
            kept.append(f"{','.join(wanted)}{{{body}}}" if wanted else "")
    return "".join(kept)


def matches(selector: str, names: set[str]) -> bool:
    """Whether all classes of a selector may occur."""
    return all(occurs(found.replace("\\", ""), names) for found in CLASS.findall(ASIDE.sub("", selector)))


def occurs(name: str, names: set[str]) -> bool:
    parts = name.split("-")
    return name in names or any("-".join(parts[:count]) + "-" in names for count in range(1, len(parts)))


def rules(sheet: str) -> Iterator[tuple[str, str | None]]:
    """Each rule's head and body; the body is None for what has none, such as ``@charset`` or text at the end."""
    place = 0
    while place < len(sheet):
        opening = sheet.find("{", place)
        if opening < 0:
            yield sheet[place:], None
            return
        end = sheet.find(";", place, opening)
        if end >= 0 and sheet[place:opening].lstrip().startswith(("@charset", "@import")):
            yield sheet[place:end + 1], None
            place = end + 1
            continue
        closing = matching(sheet, opening)
        yield sheet[place:opening], sheet[opening + 1:closing]
        place = closing + 1


def matching(sheet: str, opening: int) -> int:
    """The brace that closes the one at ``opening``; braces in quotation marks do not count."""
    depth, quote, place = 1, "", opening + 1
    while depth and place < len(sheet):
        char = sheet[place]
        if char == "\\":
            place += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        else:
            depth += (char == "{") - (char == "}")
        place += 1
    return place - 1
