"""From the words of a command line to chapters, parameters and Specs."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from lib.runs.spec import Spec
from lib.runs.store import Store
from lib.studies import Chapter, chapter
from lib.studies.base.parameters import ChapterParameters, checked, takes_text
from lib.system.checks import did_you_mean


class WrongUse(Exception):
    """The command cannot be carried out as given; the message says what can."""


@contextlib.contextmanager
def as_wrong_use() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongUse(str(error)) from error


def find_chapter(name: str) -> Chapter:
    with as_wrong_use():
        return chapter(name)


def read_parameters(where: Chapter, scale: str, given: dict[str, str]) -> ChapterParameters:
    """The chapter's parameters; ``given`` holds the texts of ``-p``."""
    known = where.module.Parameters
    with as_wrong_use():
        return checked(known, {"scale": scale} | values_of(given, [known]))


def values_of(given: dict[str, str], known: Iterable[type[ChapterParameters]]) -> dict[str, Any]:
    """The texts of ``-p`` as values.  What is for a text parameter of one of the ``known`` stays as it was typed."""
    if "scale" in given:
        raise WrongUse("the scale is an option of its own: give --scale instead of -p scale")
    texts = {name for cls in known for name, hint in typing.get_type_hints(cls).items() if takes_text(hint)}
    read = {name: value_of(text) for name, text in given.items()}
    return {name: given[name] if name in texts and value is not None else value for name, value in read.items()}


def studies_of(where: Chapter, parameters: ChapterParameters) -> dict[str, list[Spec]]:
    """The chapter's studies; parameters that fit only each for itself are wrong use too."""
    with as_wrong_use():
        return where.module.studies(parameters)


def store_of(parameters: ChapterParameters) -> Store:
    """The default store, or the folder that a chapter's ``output`` parameter names for new results."""
    with as_wrong_use():
        return Store.default(getattr(parameters, "output", None))


WORDS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}


def value_of(text: str) -> Any:
    """A parameter's value as papermill's ``-p`` reads it, with YAML's true, false and null besides."""
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return WORDS.get(text, text)


def pick_studies(studies: dict[str, list[Spec]], names: tuple[str, ...], key: str | None) -> list[Spec]:
    """The Specs of the named studies (all by default), or the one whose key begins with ``key``."""
    for name in names:
        if name not in studies:
            raise WrongUse(f"no study {name!r}; there are {', '.join(studies)}.{did_you_mean(name, studies)}")
    specs = list(dict.fromkeys(spec for name in names or studies for spec in studies[name]))
    if key is None:
        return specs
    chosen = [spec for spec in specs if spec.key.startswith(key)]
    if len(chosen) != 1:
        raise WrongUse(f"{len(chosen)} results have a name beginning with {key!r}; --list shows the names")
    return chosen
