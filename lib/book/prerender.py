"""Quarto runs this before it renders: put plotly.js beside the pages, and let a changed setting count.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

import importlib.util
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
    setting, script = root / "_variables.yml", root / "lib" / "book" / "filters.py"
    if setting.exists() and setting.stat().st_mtime > script.stat().st_mtime:
        script.touch()


def main() -> None:
    root = Path(__file__).resolve().parents[2]
    touch_filter(root)
    if not copy_plotly(root / "assets" / "plotly.min.js"):
        print("plotly is not installed, so figures show their descriptions only (`pip install plotly` draws them)",
              file=sys.stderr)


if __name__ == "__main__":
    main()
