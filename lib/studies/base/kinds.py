"""Kinds of Specs: those that choose the same by name, and differ in numbers alone."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from lib.runs.spec import Spec
from lib.studies.base.worth import in_order_of_worth


def kinds(scale: str) -> dict[tuple, tuple[str, Spec]]:
    """Return the first Spec of each kind at ``scale`` in order of worth, with its chapter's subject."""
    found: dict[tuple, tuple[str, Spec]] = {}
    for chapter, _, spec in in_order_of_worth(scale):
        found.setdefault((spec.experiment, kind(spec)), (chapter.subject, spec))
    return found


def kind(value: Any) -> tuple:
    """Return names, switches and classes in a Spec, without its numbers and without what the Specs that it builds on have chosen."""
    told = ((field.name, chosen(getattr(value, field.name))) for field in fields(value) if field.name != "seed")
    return type(value).__name__, *told


def chosen(value: Any) -> Any:
    if isinstance(value, Spec):
        return type(value).__name__
    if is_dataclass(value):
        return kind(value)
    if isinstance(value, tuple):
        return tuple(dict.fromkeys(map(chosen, value)))
    return value if value is None or isinstance(value, (bool, str)) else "number"
