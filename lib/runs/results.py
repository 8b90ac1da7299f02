"""What came out: the content of one result file, and a selection of them for a chapter."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lib.runs.markdown import harmless
from lib.runs.spec import Spec, all_fields, flatten
from lib.system.checks import require
from lib.system.whole_file import replacing

SCHEMA = 1

#: Bytes of a result file and levels of nesting in it: hundreds of times, and several times, what results have.
LARGEST, DEEPEST = 16 << 20, 50


class Damaged(Exception):
    """A result file is not what was written: cut short, edited, or of another Spec."""


class Unavailable(RuntimeError):
    """This Spec cannot run here (no data, no such device); the message says what would help."""


@dataclass(frozen=True)
class Outcome:
    """What :meth:`Spec.run` returns.

    metrics: name → number, string or None.  curves: name → one value per epoch or step.
    arrays: name → nested lists (a heat map, say).  data: the data set's name, variant, fingerprint.
    """

    metrics: dict[str, Any]
    curves: dict[str, list[Any]] = field(default_factory=dict)
    arrays: dict[str, list[Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One finished Spec.  ``origin`` is "reference" (committed) or "own" (the reader's ``runs/``)."""

    experiment: str
    key: str
    spec: dict[str, Any]
    metrics: dict[str, Any]
    curves: dict[str, list[Any]]
    arrays: dict[str, list[Any]]
    provenance: dict[str, Any]
    origin: str = "own"

    @classmethod
    def of(cls, spec: Spec, outcome: Outcome, provenance: dict[str, Any]) -> Result:
        return cls(
            spec.experiment,
            spec.key,
            all_fields(spec),
            outcome.metrics,
            outcome.curves,
            outcome.arrays,
            provenance | {"data": outcome.data},
        )

    def content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "key": self.key,
            "spec": self.spec,
            "metrics": self.metrics,
            "curves": self.curves,
            "arrays": self.arrays,
            "provenance": self.provenance,
        }

    @property
    def fields(self) -> dict[str, Any]:
        """Spec fields at one level: ``{"seed": 0, "moe.experts": 8, …}``."""
        return flatten(self.spec)


def significant(value: Any) -> Any:
    """Numbers to seven digits, None for what is not finite: JSON has no NaN.  Anything else as it is.

    Goes into dicts, lists and tuples of any depth.
    """
    if isinstance(value, dict):
        return {name: significant(part) for name, part in value.items()}
    if isinstance(value, list):
        return [significant(part) for part in value]
    if isinstance(value, tuple):
        return tuple(significant(part) for part in value)
    if not isinstance(value, float):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


def checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_result(path: Path, result: Result) -> None:
    """Write ``result`` so that a reader of ``path`` sees all of it or nothing (temporary file, then rename)."""
    content = json.loads(json.dumps(result.content()))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in (content | {"sha256": checksum(content)}).items()]
    text = "{\n" + ",\n".join(lines) + "\n}"
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_result(path: Path, origin: str) -> Result:
    """Read one result file.  Its texts are made harmless, since they end in pages.

    Raises :class:`Damaged` when its content is not what was written, and FileNotFoundError (or NotADirectoryError) when
    there is none.
    """
    try:
        content = json.loads(read_bounded(path))
        require(isinstance(content, dict) and depth(content) <= DEEPEST, f"it is not an object, or nested more than {DEEPEST} deep")
        stated = content.pop("sha256")
        require(stated == checksum(content), "its checksum does not fit its content")
        schema = content.pop("schema")
        require(schema == SCHEMA, f"its schema is {schema!r}, and this library reads {SCHEMA}: update the book")
        require((content.get("experiment"), content.get("key")) == (path.parent.name, path.stem), "its name does not fit its content")
        result = Result(**harmless(content), origin=origin)
        check_types(result)
        return result
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise
    except KeyError as error:
        raise Damaged(f"{path}: it lacks {error}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"{path}: {error}") from error


def read_bounded(path: Path) -> str:
    """The text of a file that is no larger than a result may be."""
    require(path.is_file() or not path.exists(), "it is not a file")
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    require(len(content) <= LARGEST, f"it is larger than {LARGEST >> 20} MB")
    return content.decode("utf-8")


def depth(value: dict[str, Any] | list[Any]) -> int:
    """Levels of nesting, counted no further than one beyond :data:`DEEPEST`."""
    levels, parts = 0, [value]
    while parts and levels <= DEEPEST:
        levels += 1
        parts = [
            inner for part in parts for inner in (part.values() if isinstance(part, dict) else part) if isinstance(inner, (dict, list))
        ]
    return levels


def check_types(result: Result) -> None:
    """Raise ValueError unless each part is of the type that those who read it rely on."""
    for name in ("spec", "metrics", "curves", "arrays", "provenance"):
        require(isinstance(getattr(result, name), dict), f"{name} is not an object")
    require(all(isinstance(curve, list) for curve in result.curves.values()), "a curve is not a list")
    require(all(not isinstance(value, (dict, list)) for value in result.metrics.values()), "a metric is not a single value")
    require(isinstance(result.provenance.get("device"), str), "its provenance names no device")
    data = result.provenance.get("data", {})
    require(isinstance(data, dict) and (not data or isinstance(data.get("name"), str)), "its provenance describes no data")


def check_spec(result: Result, spec: Spec, path: Path) -> None:
    """Raise :class:`Damaged` where the result in ``path`` says that it came from other values than ``spec`` has.

    Fields that only one of them has are not a contradiction: results outlive new fields.
    """
    if found := contradiction(result.spec, harmless(json.loads(json.dumps(all_fields(spec)))), "its Spec"):
        raise Damaged(f"{path}: it is the result of another Spec: {found}")


def contradiction(stored: Any, asked: Any, name: str) -> str | None:
    """Where two Specs' fields differ, in words, looking only at fields that both have."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        pairs = [(stored[key], asked[key], key) for key in stored.keys() & asked.keys()]
    elif isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = [(old, new, name) for old, new in zip(stored, asked)]
    else:
        return None if stored == asked else f"{name} is {stored!r:.80}, not {asked!r:.80}"
    return next(filter(None, (contradiction(*pair) for pair in pairs)), None)


@dataclass(frozen=True)
class Missing:
    """A Spec without a result, and why it was not run."""

    spec: Spec
    reason: str


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """Results in the order of the Specs asked for; those that could not be had are in ``missing``."""

    found: tuple[Result, ...]
    missing: tuple[Missing, ...] = ()

    def __getitem__(self, index: Any) -> Any:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.found)

    def where(self, **fields: Any) -> Results:
        """Those whose Spec fields have these values; ``__`` stands for the dot of a nested field."""
        wanted = {name.replace("__", "."): value for name, value in fields.items()}
        kept = tuple(r for r in self.found if all(r.fields.get(n) == v for n, v in wanted.items()))
        return Results(kept, self.missing)

    def frame(self) -> pd.DataFrame:
        """One row per result: Spec fields, metrics, device and key."""
        return pd.DataFrame([r.fields | r.metrics | {"device": r.provenance["device"], "key": r.key} for r in self.found])

    def curves(self, *names: str) -> pd.DataFrame:
        """Long form: one row per result and step, with the Spec fields beside the named curves."""
        rows = [
            r.fields | {"key": r.key, "step": step + 1} | dict(zip(names, values, strict=True))
            for r in self.found
            for step, values in enumerate(zip(*(r.curves[name] for name in names), strict=True))
        ]
        return pd.DataFrame(rows)
