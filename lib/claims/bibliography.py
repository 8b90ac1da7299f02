"""The one home of titles, authors, venues and years: ``references.bib``, as Quarto's citations read it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bibtexparser
from bibtexparser.bparser import BibTexParser
from bibtexparser.customization import author, convert_to_unicode

from lib import ROOT
from lib.claims.entry_files import WrongEntry


@dataclass(frozen=True)
class Reference:
    """An entry, in plain Unicode: ``authors`` with first names first, ``venue`` with volume and number, ``link`` to read it."""

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    arxiv: str | None = None
    doi: str | None = None
    link: str | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Reference:
        """Return the entry of a parsed file.  Raises KeyError for one without title, author or year."""
        return cls(
            title=bare(entry["title"]),
            authors=tuple(" ".join(reversed(bare(name).split(", "))).strip() for name in entry["author"]),
            venue=venue(entry),
            year=int(entry["year"]),
            arxiv=entry.get("eprint"),
            doi=entry.get("doi"),
            link=entry.get("url"),
        )


def bare(text: str) -> str:
    """Return the text without the braces that keep capitals."""
    return text.replace("{", "").replace("}", "")


def venue(entry: Mapping[str, Any]) -> str:
    """Return where it appeared: a journal or a book with volume and number, or the entry's note, or arXiv."""
    place = entry.get("journal") or entry.get("booktitle")
    if not place:
        return bare(entry.get("note") or "arXiv preprint")
    number = f"({entry['number']})" if "number" in entry else ""
    return bare(f"{place} {entry['volume']}{number}" if "volume" in entry else place)


def read(path: Path) -> dict[str, Reference]:
    """Return every entry of a BibTeX file by its key.  Raises WrongEntry naming the one at fault."""
    parser = BibTexParser(customization=lambda entry: author(convert_to_unicode(entry)), ignore_nonstandard_types=False)
    found: dict[str, Reference] = {}
    for entry in bibtexparser.loads(path.read_text(encoding="utf-8"), parser).entries:
        key = entry["ID"]
        if key in found:
            raise WrongEntry(f"{path.name}: {key!r} is there twice")
        try:
            found[key] = Reference.of(entry)
        except (KeyError, ValueError) as error:
            raise WrongEntry(f"{path.name}: {key!r}: {error}") from error
    return found


@functools.cache
def references() -> dict[str, Reference]:
    """Return every entry of the book's own ``references.bib`` by its key."""
    return read(ROOT / "references.bib")
