"""Quarto runs this before it renders: let a changed setting count.

Only the standard library is imported: Quarto may start this with any Python 3.
"""

from __future__ import annotations

from pathlib import Path


def touch_filter(root: Path) -> None:
    """Quarto keeps filtered notebooks until notebook or filter changes, but the filter reads a setting too."""
    setting, script = root / "_variables.yml", root / "lib" / "book" / "filters.py"
    if setting.exists() and setting.stat().st_mtime > script.stat().st_mtime:
        script.touch()


def main() -> None:
    touch_filter(Path(__file__).resolve().parents[2])


if __name__ == "__main__":
    main()
