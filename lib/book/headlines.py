"""What came out, for the first page: each chapter's own paragraph of results."""

from __future__ import annotations

import json
import re
from pathlib import Path

#: How a chapter's paragraph of results begins.
PARAGRAPH = re.compile(r"\*\*(This run in|In) one paragraph\.\*\*\s*")

TITLE = re.compile(r"# (.+?)(?: \{.*)?$", re.MULTILINE)


def headlines(root: Path) -> str:
    """What each executed chapter says of its results in one paragraph, with its title, in the book's order."""
    found = []
    for name in re.findall(r"chapters/\S+\.ipynb", (root / "_quarto.yml").read_text(encoding="utf-8")):
        cells = json.loads((root / name).read_text(encoding="utf-8"))["cells"] if (root / name).exists() else []
        sources = ["".join(cell["source"]) for cell in cells]
        title = next((match[1] for source in sources if (match := TITLE.match(source))), name)
        shown = [markdown(output) for cell in cells for output in cell.get("outputs", ())]
        told = next((text for text in shown if PARAGRAPH.match(text)), None)
        if told:
            found.append(f"**[{title}]({name}).** {PARAGRAPH.sub('', told, count=1)}")
    return "\n\n".join(found) + "\n"


def markdown(output: dict) -> str:
    return "".join(output.get("data", {}).get("text/markdown", "")).strip()


def write_headlines(root: Path) -> None:
    """``_headlines.md``, which the first page includes.  Left alone where nothing changed: nothing is rendered anew then.

    It has to be there before Quarto starts, which looks at includes before it runs any script of the project.
    """
    target, text = root / "_headlines.md", headlines(root)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
