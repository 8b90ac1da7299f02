"""Lines that tell Specs of one list apart: what differs between them comes first, since lines are cut off at their end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lib.runs.spec import Spec, changed_fields, flatten


def labels(specs: Iterable[Spec]) -> dict[Spec, str]:
    """Of each Spec its experiment, then the fields in which it differs from others of that experiment, then the rest.

    A Spec whose class has a label of its own keeps that.
    """
    specs = list(dict.fromkeys(specs))
    fields = {spec: flatten(changed_fields(spec)) for spec in specs if type(spec).label is Spec.label}
    experiments: dict[str, list[dict[str, Any]]] = {}
    for spec, own in fields.items():
        experiments.setdefault(spec.experiment, []).append(own)
    shared = {experiment: in_all(listed) for experiment, listed in experiments.items()}

    def ordered(spec: Spec) -> str:
        own = sorted(fields[spec].items(), key=lambda field: field[0] in shared[spec.experiment])
        return " ".join([spec.experiment, *(f"{name}={value}" for name, value in own)])

    return {spec: ordered(spec) if spec in fields else spec.label for spec in specs}


def in_all(listed: list[dict[str, Any]]) -> set[str]:
    """Names of the fields that all of several Specs have, with one value."""
    first, *others = listed
    return {name for name, value in first.items() if all(name in other and other[name] == value for other in others)}


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]} …"
