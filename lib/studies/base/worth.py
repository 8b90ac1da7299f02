"""In which order missing results are run: what decides most first."""

from __future__ import annotations

from lib import studies
from lib.runs.spec import Spec
from lib.studies import Chapter

#: (subject, study) of what other chapters build on, or what decides most of a chapter's claims, the most worth first.
#: All else follows in the order of the book.
FIRST = (
    ("benchmarks", "anchors"),
    ("benchmarks", "practice"),
    ("language", "dense"),
    ("language", "pruning"),
    ("language", "rounding"),
    ("growth", "envelope"),
    ("pruning", "dense"),
    ("pruning", "ratios"),
    ("moe", "accuracy"),
    ("elastic", "samplers"),
    ("distillation", "methods"),
    ("growth", "scratch"),
)


def in_order_of_worth(scale: str) -> list[tuple[Chapter, str, Spec]]:
    """Return every Spec of the book at ``scale`` once, with a chapter and a study that ask for it."""
    found: list[tuple[Chapter, str, Spec]] = []
    for chapter in studies.CHAPTERS:
        for study, specs in chapter.module.studies(chapter.module.Parameters(scale=scale)).items():
            found += [(chapter, study, spec) for spec in specs]

    def place(entry: tuple[Chapter, str, Spec]) -> int:
        name = entry[0].subject, entry[1]
        return FIRST.index(name) if name in FIRST else len(FIRST)

    once: dict[Spec, tuple[Chapter, str, Spec]] = {}
    for entry in sorted(found, key=place):
        once.setdefault(entry[2], entry)
    return list(once.values())
