"""Text for pre-trained language models: WikiText-2's test split to judge by, children's books to calibrate on.

    text, fingerprint = wikitext()            # the raw test split, one string
    text, fingerprint = books("train")        # paragraphs of 103 books

Neither is downloaded: ``wikitext2/wiki.test.raw`` and ``childrens_books/*.parquet`` (column ``text``) are looked for in the folder
that ``BOOK_DATA`` names and in ``data/cache/``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lib.data.files import data_folders
from lib.data.formats import DataDamaged, DataMissing

#: WikiText-2's raw test split (Merity et al., arXiv 1609.07843).
WIKITEXT = "wikitext2/wiki.test.raw"

#: Books out of copyright, in paragraphs.
BOOKS = "childrens_books/{}.parquet"


def wikitext() -> tuple[str, str]:
    """WikiText-2's raw test split as it stands in the file, and 16 hex digits of its sha256.  Raises DataMissing."""
    path = found(WIKITEXT, "WikiText-2's raw test split")
    return path.read_text(encoding="utf-8"), digest(path)


def books(split: str = "train") -> tuple[str, str]:
    """Paragraphs of children's books, with empty lines between them, and 16 hex digits of the file's sha256.

    Raises DataMissing, and DataDamaged, naming the file, for one that cannot be read.
    """
    import pyarrow.parquet  # imported here: slow

    path = found(BOOKS.format(split), "paragraphs of children's books (parquet, column text)")
    try:
        paragraphs = pyarrow.parquet.read_table(path, columns=["text"]).column("text").to_pylist()
    except Exception as error:  # a parser fed with garbage may raise anything
        raise DataDamaged(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    return "\n\n".join(paragraphs), digest(path)


def found(name: str, what: str) -> Path:
    """The file of this name in the first data folder that has it.  Raises DataMissing with what would help."""
    for folder in data_folders():
        if (path := folder / name).is_file():
            return path
    raise DataMissing(f"{what} is not on this machine: put it into data/cache/{name}, or name a folder that holds {name} in BOOK_DATA")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
