"""Quarto runs this after it rendered: what pages need from disk and by keyboard, notebooks to download, a last check.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

UNRESOLVED = re.compile(
    r'class="quarto-unresolved-ref">(?P<reference>[^<]*)'  # a figure, table or section nobody defined
    r"|<strong>(?P<citation>[^<\s]+)\?</strong>"  # a key references.bib does not have
)


def unresolved(book: Path) -> list[str]:
    """References and citations that lead nowhere, as "page: what"."""
    found = []
    for page in sorted(book.rglob("*.html")):
        for match in UNRESOLVED.finditer(page.read_text(encoding="utf-8")):
            what = f"@{match['reference'].strip('?@')}" if match["reference"] else f"citation @{match['citation']}"
            found.append(f"{page.relative_to(book).as_posix()}: {what}")
    return list(dict.fromkeys(found))


def copy_notebooks(root: Path, book: Path) -> None:
    """The notebook each chapter's page was rendered from, for readers to download, and the link to it."""
    (book / "notebooks").mkdir(parents=True, exist_ok=True)
    for page in (book / "chapters").glob("*.html"):
        notebook = root / "chapters" / f"{page.stem}.ipynb"
        if notebook.exists():
            shutil.copyfile(notebook, book / "notebooks" / notebook.name)
            page.write_text(with_download(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_download(page: str) -> str:
    """A page whose notebook is in place: its link may lead there now."""
    return page.replace('<a data-href="../notebooks/', '<a href="../notebooks/')


#: Where the text of a page begins (with more classes where tables use the margin), and the link that leads there from its
#: very beginning.
TEXT = re.compile(r'<main\b(?=[^>]*\bid="quarto-document-content")')
SKIP = '<a class="book-skip" href="#quarto-document-content">Skip to content</a>'


def add_skip_links(book: Path) -> None:
    """A first link on each page past header and navigation, for readers who use the keyboard."""
    for page in book.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if TEXT.search(text) and SKIP not in text:
            text = re.sub(r"<body\b[^>]*>", lambda match: f"{match[0]}\n{SKIP}", text, count=1)
            page.write_text(TEXT.sub('<main tabindex="-1"', text, count=1), encoding="utf-8")


def without_modules(book: Path) -> None:
    """Give each page Quarto's JavaScript modules as ordinary scripts: a browser loads no module from disk."""
    tag = re.compile(r'<script src="([^":]+\.js)" type="module"></script>')
    for page in book.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        replaced = tag.sub(lambda match: plain_script_tag(match, page.parent / match[1]), text)
        if replaced != text:
            page.write_text(replaced, encoding="utf-8")


def plain_script_tag(match: re.Match, module: Path) -> str:
    script = as_script(module)
    if script is None:
        return match[0]
    module.with_suffix(".plain.js").write_text(script, encoding="utf-8")
    return f'<script src="{match[1].removesuffix(".js")}.plain.js" defer></script>'


def as_script(module: Path) -> str | None:
    """A module as one function with the modules it imports inside; None when it uses more than Quarto's do."""
    exported: list[str] = []

    def imported(match: re.Match) -> str:
        inner = as_script(module.parent / match[2])
        return match[0] if inner is None else f"const {match[1]} = {inner}"

    def declared(match: re.Match) -> str:
        exported.append(match[2])
        return f"{match[1]} {match[2]}"

    text = module.read_text(encoding="utf-8")
    text = re.sub(r'^import \* as (\w+) from "([^"]+)";?$', imported, text, flags=re.MULTILINE)
    text = re.sub(r"^export (function|const|let|class) (\w+)", declared, text, flags=re.MULTILINE)
    if re.search(r"^(import|export)\b", text, flags=re.MULTILINE):
        return None
    return f"(() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();\n"


def main() -> int:
    root = Path(__file__).resolve().parents[2]
    sys.path.insert(0, str(root))  # Quarto starts this file, not the package
    from lib.book.first_paint import settle
    from lib.book.moved import lead_on, put_up_signposts
    from lib.book.search_index import write_search_script
    from lib.book.sheets.dark import thin_dark_sheets
    from lib.book.sheets.lean import lean_sheets

    book = Path(os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", root / "_book"))
    copy_notebooks(root, book)
    without_modules(book)
    put_up_signposts(book)
    lead_on(book)
    add_skip_links(book)
    settle(book)
    lean_sheets(book)
    thin_dark_sheets(book)
    write_search_script(book)
    problems = unresolved(book)
    for problem in problems:
        print(f"unresolved reference in {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
