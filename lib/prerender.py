"""Quarto runs this before it renders: plotly.js beside the pages, the chapters' headline results for the first page, and
let a changed setting count.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path


def copy_plotly(target: Path) -> bool:
    """Copy plotly.min.js from the installed plotly package, whose version the figures were made with.

    Returns whether ``target`` is there afterwards; an older copy is kept when plotly is not installed.
    """
    package = importlib.util.find_spec("plotly")
    if package is not None:
        original = Path(package.origin).parent / "package_data" / "plotly.min.js"
        if not target.exists() or target.stat().st_size != original.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, target)
    return target.exists()


def touch_filter(root: Path) -> None:
    """Quarto keeps filtered notebooks until notebook or filter changes, but the filter reads a setting too."""
    setting, script = root / "_variables.yml", root / "lib" / "bookfilter.py"
    if setting.exists() and setting.stat().st_mtime > script.stat().st_mtime:
        script.touch()


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
    """``_headlines.md``, which the first page includes.  Left alone where nothing changed: nothing is rendered anew then."""
    target, text = root / "_headlines.md", headlines(root)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    touch_filter(root)
    write_headlines(root)
    if not copy_plotly(root / "assets" / "plotly.min.js"):
        print("plotly is not installed, so figures show their descriptions only (`pip install plotly` draws them)",
              file=sys.stderr)


if __name__ == "__main__":
    main()
