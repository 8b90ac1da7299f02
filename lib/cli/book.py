"""``python -m lib book`` and ``edition``."""

from __future__ import annotations

from lib import studies
from lib.book.build import build, chapter_parameters
from lib.book.edition import make_edition
from lib.cli.names import as_wrong_use, find_chapter, values_of


def book(scale: str, given: dict[str, str], chapters: tuple[str, ...], jobs: int | None) -> int:
    only = [find_chapter(name) for name in chapters]
    parameters = values_of(given, [chapter.module.Parameters for chapter in only or studies.CHAPTERS])
    with as_wrong_use():
        chapter_parameters(only or studies.CHAPTERS, scale, parameters)
    return build(scale, jobs, parameters, only)


def edition(chapters: tuple[str, ...], jobs: int | None) -> int:
    return make_edition(jobs, [find_chapter(name) for name in chapters])
