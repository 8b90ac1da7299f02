"""``python -m lib show KEY``: one result, from the number back to the line that trained it and the command that makes it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from lib import ROOT, studies
from lib.cli.names import WrongUse
from lib.runs.results import Result
from lib.runs.scales import SCALES
from lib.runs.spec import Spec, changed_fields, flatten
from lib.runs.store import Store
from lib.studies import Chapter

#: Results of one beginning that are named where it tells none apart.
NAMED = 8


@dataclass(frozen=True)
class Place:
    """Where the book uses a Spec."""

    chapter: Chapter
    study: str
    scale: str


def show(key: str) -> None:
    store = Store.default()
    found = {spec: places for spec, places in planned().items() if spec.key.startswith(key)}
    if not found:
        raise WrongUse(
            f"no result of the book, at any scale, has a name that begins with {key!r}; `python -m lib results CHAPTER` shows the names"
        )
    if len(found) > 1:
        names = ", ".join(sorted(spec.key for spec in found)[:NAMED])
        raise WrongUse(f"{len(found)} results have a name that begins with {key!r}: {names}{' …' if len(found) > NAMED else ''}")
    ((spec, places),) = found.items()
    for line in lines(spec, places, store):
        click.echo(line)


def planned() -> dict[Spec, list[Place]]:
    """Return every Spec of the book at every scale, those that others build on too, with the places that use it."""
    found: dict[Spec, list[Place]] = {}
    for chapter in studies.CHAPTERS:
        for scale in SCALES:
            for study, specs in chapter.module.studies(chapter.module.Parameters(scale=scale)).items():
                for spec in dict.fromkeys(one for listed in specs for one in with_parents(listed)):
                    found.setdefault(spec, []).append(Place(chapter, study, scale))
    return found


def with_parents(spec: Spec) -> Iterator[Spec]:
    yield spec
    for parent in spec.builds_on:
        yield from with_parents(parent)


def lines(spec: Spec, places: list[Place], store: Store) -> Iterator[str]:
    """Yield what is said of a Spec: what it is, who runs it, what is stored, where it is used, and what makes it."""
    result = store.get(spec)
    yield f"{spec.experiment} {spec.key}"
    yield f"run by      {where_defined(spec)}"
    for name, value in flatten(changed_fields(spec)).items():
        yield f"  {name} = {value}"
    yield from stored_lines(spec, result, store)
    for place in places:
        yield f"used by     chapter {place.chapter.number}, study {place.study!r}, scale {place.scale}"
    first = places[0]
    yield f"made by     python -m lib run {first.chapter.subject} --scale {first.scale} --study {quoted(first.study)} --key {spec.key}"


def stored_lines(spec: Spec, result: Result | None, store: Store) -> Iterator[str]:
    if result is None:
        yield "stored      nowhere: it was not run yet"
        return
    yield f"stored      {relative(store.path(spec) if result.origin == 'own' else store.reference_path(spec))}"
    for name, value in result.metrics.items():
        yield f"  {name} = {value}"
    if result.curves:
        yield f"  curves: {', '.join(result.curves)}"
    for name, value in result.provenance.items():
        yield f"  from {name}: {value if isinstance(value, (str, int, float, bool)) else json.dumps(value, ensure_ascii=False)}"


def where_defined(spec: Spec) -> str:
    """Return file and line of the function that runs the Spec."""
    function = inspect.unwrap(type(spec).run)
    return f"{relative(Path(inspect.getfile(function)))}:{inspect.getsourcelines(function)[1]}"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
