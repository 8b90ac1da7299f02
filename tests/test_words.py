"""Plain English on the pages: phrases of a private dialect that came back once too often."""

import json
import re

import pytest

from conftest import ROOT

#: What is not written, and what is written instead.
NOT_WRITTEN = {
    r"What\s+stands\s+behind": "± is the half-width of …",
    r"\btrainings\b": "runs",
    r"\b[Aa] training's\b": "a run's",
    r"\b(total|equal|same|training) arithmetic\b": "compute",
    r"\bis no (measure|verdict|loss|gain|method|network)\b": "is not a …",
}

PAGES = [*sorted((ROOT / "chapters").glob("*.ipynb")), *sorted(ROOT.glob("*.qmd")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def written(path) -> str:
    """What people wrote: Markdown and code of a notebook, not its outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_written_in_plain_words(path):
    text = written(path)
    found = [f"{match[0]!r}: write {better!r}" for phrase, better in NOT_WRITTEN.items() for match in re.finditer(phrase, text)]
    assert not found, found
