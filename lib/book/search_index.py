"""The search index of the rendered book: what people wrote, section by section, without code, figures' data and references.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

#: What is not searched: code and what it printed, scripts, drawings, formulas, folded lists of runs, controls.
UNSEARCHED_TAGS = {"pre", "script", "style", "svg", "math", "button", "template"}
UNSEARCHED_CLASSES = {
    "book-figure-note",
    "book-runs",
    "chapter-line",
    "book-ledger",
    "book-plot-words",
    "header-section-number",
    "anchorjs-link",
    "quarto-title-meta",
    "dropdown-menu",
}
VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}

HEADINGS = {"h1", "h2", "h3", "h4"}

#: The bibliography that a page ends with.
REFERENCES = "refs"


class Sections(HTMLParser):
    """Reads a page: heading, text and citations of each section by its id, and the titles of the page's bibliography."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: dict[str, str] = {}
        self.texts: dict[str, list[str]] = {"": []}
        self.cites: dict[str, list[str]] = {"": []}
        self.titles: dict[str, str] = {}
        self._open: list[tuple[str, str | None, bool, str | None]] = []  # tag, section begun, silent, bibliography entry
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        classes = set(found.get("class", "").split())
        if found.get("id") == "quarto-document-content":
            self._inside = True
        for key in found.get("data-cites", "").split():
            self.cites.setdefault(self.section, []).append(key)
        if tag in VOID:
            return
        identity = found.get("id", "")
        entry = identity.removeprefix("ref-") if identity.startswith("ref-") and "csl-entry" in classes else None
        silent = tag in UNSEARCHED_TAGS or bool(classes & UNSEARCHED_CLASSES) or identity == REFERENCES
        self._open.append((tag, identity if tag == "section" else None, silent, entry))

    def handle_endtag(self, tag: str) -> None:
        while self._open and tag in [name for name, *_ in self._open]:
            name, *_ = self._open.pop()
            if name == tag:
                break
        if tag == "main":
            self._inside = False

    def handle_data(self, data: str) -> None:
        entry = next((entry for *_, entry in reversed(self._open) if entry), None)
        if entry:
            self.titles[entry] = self.titles.get(entry, "") + data
        elif self._inside and not any(silent for _, _, silent, _ in self._open):
            if any(tag in HEADINGS for tag, *_ in self._open):
                self.headings[self.section] = self.headings.get(self.section, "") + data
            else:
                self.texts.setdefault(self.section, []).append(data)

    @property
    def section(self) -> str:
        return next((section for _, section, *_ in reversed(self._open) if section), "")


def title_of(entry: str) -> str:
    """Return the title in an entry of the bibliography as Chicago style writes it: in quotation marks, or after the year."""
    text = " ".join(entry.split())
    quoted = re.search("[“‘]+(.+?)[.?!,]*[”’]", text)
    after_year = re.search(r"\b(?:19|20)\d\d[a-z]?\. (.+?)\.", text)
    return quoted[1] if quoted else after_year[1] if after_year else ""


def thinned(index: list[dict], pages: dict[str, str]) -> list[dict]:
    """Return an entry per section with its own words and the titles of the papers it cites; references are left out.

    ``index``  what Quarto wrote: its entries keep their headings, with numbers, and lend the others the rest
    ``pages``  the HTML of each page by its address in the index
    """
    known = {entry["href"]: entry for entry in index}
    found = []
    for address, text in pages.items():
        page = Sections()
        page.feed(text)
        whole = known.get(address) or next(entry for entry in index if entry["href"].startswith(f"{address}#"))
        for section, words in page.texts.items():
            href = f"{address}#{section}" if section else address
            heading = " ".join(page.headings.get(section, "").split())
            if heading.lower() == "references" or section and not heading:
                continue
            papers = dict.fromkeys(title_of(page.titles.get(key, "")) for key in page.cites.get(section, []))
            found.append(
                known.get(href, whole | {"objectID": href, "href": href, "section": heading if section else ""})
                | {"text": re.sub(r"\s+", " ", " ".join(words)).strip(), "papers": [title for title in papers if title]}
            )
    return found


def write_search_script(book: Path) -> None:
    """Write the thinned index where Quarto had put its own, and as a script: a page opened from disk may not fetch JSON."""
    index = book / "search.json"
    if not index.exists():
        return
    found = json.loads(index.read_text(encoding="utf-8"))
    addresses = dict.fromkeys(entry["href"].partition("#")[0] for entry in found if not entry["href"].startswith("references.html"))
    pages = {address: (book / address).read_text(encoding="utf-8") for address in addresses if (book / address).exists()}
    text = json.dumps(thinned(found, pages), ensure_ascii=False, separators=(",", ":"))
    index.write_text(text, encoding="utf-8")
    (book / "search-index.js").write_text(f"window.bookSearchIndex = {text};\n", encoding="utf-8")
