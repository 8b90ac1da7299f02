"""What to run: a :class:`Spec` names one experiment completely, and its fields are its address.

The file name of a result is a hash of the Spec's fields *with defaults omitted* (the rule of
``open_lth``), so a new field with a default never invalidates results that exist already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # lib.runs.results imports this module
    from lib.runs.results import Outcome


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Base of all Specs.  A subclass adds fields and says what running them means.

    ``experiment`` is the folder its results live in, ``version`` is raised when the *meaning* of the
    same fields changes; a property, where it changes for some values of the fields only.  Fields hold JSON
    scalars, tuples of them, or further frozen dataclasses.
    """

    experiment: ClassVar[str]
    version: ClassVar[int] = 1

    seed: int = 0

    def run(self, session: Any) -> Outcome:
        """Do the work; ``session`` is a :class:`lib.runs.store.Session`.  Subclasses define it."""
        raise TypeError(f"{type(self).__name__} does not say what running it means")

    @property
    def key(self) -> str:
        """16 hex digits that name this Spec's result."""
        address = {"experiment": self.experiment, "version": self.version, "fields": changed_fields(self)}
        text = json.dumps(address, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def builds_on(self) -> tuple[Spec, ...]:
        """Specs whose weights running this one may ask for: those among its fields, unless a subclass knows better."""
        parts = (getattr(self, name) for name in self.fields_with_runs)
        return tuple(one for part in parts for one in (part if isinstance(part, tuple) else (part,)) if isinstance(one, Spec))

    @property
    def fields_with_runs(self) -> tuple[str, ...]:
        """Names of the fields that hold a Spec, or several in a tuple."""
        held = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return tuple(
            name
            for name, part in held.items()
            if isinstance(part, Spec) or (isinstance(part, tuple) and any(isinstance(one, Spec) for one in part))
        )

    @property
    def label(self) -> str:
        """A line for progress bars and messages: the fields that differ from their defaults."""
        flat = flatten(changed_fields(self))
        return self.experiment + "".join(f" {name}={value}" for name, value in flat.items())


def changed_fields(value: Any) -> dict[str, Any]:
    """Fields of a frozen dataclass that differ from their defaults, as plain JSON data."""
    changed = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.default is not dataclasses.MISSING and item == field.default:
            continue
        if field.default_factory is not dataclasses.MISSING and item == field.default_factory():
            continue
        changed[field.name] = plain(item, field.name, changed_fields)
    return changed


def all_fields(value: Any) -> dict[str, Any]:
    """Every field of a frozen dataclass as plain JSON data: what a result file shows its reader."""
    return {f.name: plain(getattr(value, f.name), f.name, all_fields) for f in dataclasses.fields(value)}


def plain(item: Any, name: str, nested: Callable[[Any], dict[str, Any]]) -> Any:
    """``item`` as JSON data.  Raises TypeError for anything whose address would not be stable."""
    if dataclasses.is_dataclass(item):
        version = getattr(item, "version", 1)  # of a Spec, or of a part whose meaning has changed
        return {"type": type(item).__name__, **({"version": version} if version != 1 else {}), **nested(item)}
    if isinstance(item, tuple):
        return [plain(part, name, nested) for part in item]
    if isinstance(item, float) and item.is_integer():
        return int(item)  # lr=1 and lr=1.0 are equal in Python, so they must have one address
    if item is None or isinstance(item, (bool, int, float, str)):
        return item
    raise TypeError(
        f"field {name!r} holds a {type(item).__name__}; a Spec may hold numbers, strings, None, tuples of these and frozen dataclasses"
    )


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as one level, ``{"moe.experts": 8}``; a type's name stands only where it has no fields to show."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            inner = {k: v for k, v in value.items() if k != "type"}
            flat |= flatten(inner, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value.get("type")}
        else:
            flat[prefix + name] = value
    return flat
