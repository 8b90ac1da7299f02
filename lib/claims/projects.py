"""What the student projects that this book grew from report: ``data/projects.yml``, read and checked.

Theirs is typed there, row by row.  Ours is computed from stored results by
functions of :mod:`lib.claims.project_values`; :mod:`lib.claims.project_tables` sets both side by
side and says how each unit is printed.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib import ROOT
from lib.claims.entry_files import read_entries
from lib.studies import CHAPTERS
from lib.system.checks import did_you_mean, one_of, require

#: A number in the column's unit, or words.
Figure = float | str


@dataclass(frozen=True)
class Correction:
    """What a project's figure should be, and why."""

    figure: Figure
    why: str


@dataclass(frozen=True)
class Column:
    """What a number means.  ``study``: names of the chapter's studies that ours is read from; none where it is counted."""

    id: str
    title: str
    unit: str
    study: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a project's table in one of its columns.

    ``figure``   theirs, in the column's unit, or in words
    ``ours``     function of :mod:`lib.claims.project_values` that reads ours, told ``given`` beside the
                 studies; None where the book has no counterpart, and ``why_not`` says so in one sentence
    """

    label: str
    column: Column
    figure: Figure
    ours: str | None
    given: Mapping[str, Any] = field(default_factory=dict)
    corrected: Correction | None = None
    why_not: str | None = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.figure, (int, float, str)) and self.figure != "",
            f"row {self.label!r}: figure is {self.figure!r}: give a number in the column's unit, or words",
        )
        require(
            (self.ours is None) == (self.why_not is not None), f"row {self.label!r}: give ours, or ours: null and why_not, one of the two"
        )
        if self.ours is not None:
            check_call(self.label, self.ours, self.given)

    def function(self) -> Callable[..., list[float]]:
        """Reads our values from studies, told what is given.  There is none where ``ours`` is None."""
        if self.ours is None:
            raise ValueError(f"row {self.label!r} has no number of ours: {self.why_not}")
        return functools.partial(values()[self.ours], **self.given)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A project's table; see the head of ``data/projects.yml``."""

    id: str
    title: str
    project: str
    subject: str
    caveat: str
    columns: Mapping[str, Column]
    rows: tuple[Line, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Table:
        """A table from its YAML entry.  Raises ValueError, KeyError or TypeError for what is wrong with it."""
        one_of("subject", entry["subject"], [chapter.subject for chapter in CHAPTERS])
        columns = {name: column_of(name, column) for name, column in entry["columns"].items()}
        for column in columns.values():
            one_of(f"unit of column {column.id!r}", column.unit, units())
        rows = tuple(line_of(row, columns) for row in entry["rows"])
        require(rows, "a table needs rows")
        unused = columns.keys() - {row.column.id for row in rows}
        require(not unused, f"no row is in column {', '.join(sorted(unused))}")
        fields: dict[str, Any] = {**entry, "columns": columns, "rows": rows}
        return cls(**fields)


def column_of(name: str, column: Mapping[str, Any]) -> Column:
    return Column(id=name, study=tuple(column["study"]), **{key: value for key, value in column.items() if key != "study"})


def line_of(row: Mapping[str, Any], columns: Mapping[str, Column]) -> Line:
    one_of(f"column of row {row['label']!r}", row["column"], columns)
    corrected = Correction(**row["corrected"]) if "corrected" in row else None
    fields: dict[str, Any] = {**row, "column": columns[row["column"]], "corrected": corrected}
    return Line(**fields)


def check_call(label: str, name: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError unless the function is there and takes what it is given."""
    known = values()
    require(name in known, f"row {label!r}: no function {name!r} in lib/claims/project_values.py.{did_you_mean(str(name), known)}")
    try:
        inspect.signature(known[name]).bind({}, **given)
    except TypeError as error:
        raise ValueError(f"row {label!r}: {name} {error}: correct what is given") from error


def values() -> Mapping[str, Callable[..., list[float]]]:
    return importlib.import_module("lib.claims.project_values").VALUES


def units() -> Collection[str]:
    """Names of units; the module that prints them needs this one."""
    return importlib.import_module("lib.claims.project_tables").UNITS


def read_projects(path: Path) -> dict[str, Table]:
    """Tables by id.  Raises ValueError naming the table and what is wrong with it."""
    return read_entries(path, Table.of, "id")


@functools.cache
def projects() -> dict[str, Table]:
    """Every table of ``data/projects.yml`` by id, in its order."""
    return read_projects(ROOT / "data" / "projects.yml")


def project(table_id: str) -> Table:
    """The table of this id; ValueError with the nearest one otherwise."""
    require(table_id in projects(), f"no table {table_id!r} in data/projects.yml.{did_you_mean(table_id, projects())}")
    return projects()[table_id]
