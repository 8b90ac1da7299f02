"""Our numbers beside those of the student projects in ``data/projects.yml``: read from what chapters stored, nothing is run.

Results are the reader's own or the committed ones, of the best scale that has all that a row needs, whatever the scale of
the chapter that shows them; so each number says its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import pandas as pd

from lib.claims.project_values import Studies
from lib.claims.projects import Column, Correction, Figure, Line, Table
from lib.data.titles import title
from lib.measure.statistics import Estimate, NotTestable, number, percent, points, spelled, student, times, why
from lib.runs.replay import stored
from lib.runs.results import Result
from lib.runs.scales import REFERENCE_SCALES
from lib.runs.spec import Spec
from lib.runs.store import Store
from lib.studies import chapter

#: Scales whose results are looked at, the best first.
LOOKED_AT = (*REFERENCE_SCALES, "laptop")

#: In place of a scale where a number is counted and needs no run, and where runs are the same at every scale.
COUNTED, ANY = "counted", "any scale"


@dataclass(frozen=True)
class Unit:
    """How numbers of a unit are written: ``ours`` from an Estimate in the base unit, theirs with ``sign`` after them."""

    ours: Callable[[Estimate], str]
    sign: str = ""
    signed: bool = False

    def theirs(self, figure: Figure) -> str:
        """A project's figure, which is in the unit itself already; words stay as they are."""
        if isinstance(figure, str):
            return figure
        return f"{figure:{'+' if self.signed else ''}{',' if figure >= 1000 else ''}}{self.sign}"


UNITS = {
    "percent": Unit(percent, " %"),
    "points": Unit(points, " points", signed=True),
    "times": Unit(times, "×"),
    "number": Unit(number),
    "seconds": Unit(partial(spelled, digits=2, unit=" s"), " s"),
    "epochs": Unit(partial(spelled, digits=0, unit=" epochs"), " epochs"),
    "millions": Unit(partial(spelled, factor=1e-6, digits=1, unit=" M"), " M"),
    "nats": Unit(partial(spelled, digits=4, signed=True)),
}


@dataclass(frozen=True)
class Row:
    """A row with our number beside the project's.

    ``ours``   in the column's base unit; None where there is none, and ``reason`` says why
    ``scale``  of the results looked at, :data:`COUNTED` where none is needed; None where this book has no counterpart
    ``results`` that were looked at
    """

    label: str
    column: Column
    figure: Figure
    corrected: Correction | None
    ours: Estimate | None
    reason: str | None
    scale: str | None
    results: tuple[Result, ...]

    @property
    def n(self) -> int:
        return self.ours.n if self.ours else 0

    @property
    def data(self) -> list[str]:
        """Names of the data sets behind the results."""
        return sorted({data["name"] for result in self.results if (data := result.provenance.get("data"))})


class Shelf:
    """All that is stored of one chapter: each scale's Specs are listed once."""

    def __init__(self, module: ModuleType, store: Store) -> None:
        self.module, self.store = module, store
        self._specs: dict[str, dict[str, list[Spec]]] = {}

    def specs(self, scale: str) -> dict[str, list[Spec]]:
        """The chapter's studies at a scale, with its default parameters."""
        if scale not in self._specs:
            self._specs[scale] = self.module.studies(self.module.Parameters(scale=scale))
        return self._specs[scale]

    def best(self, names: Iterable[str]) -> tuple[str, Studies]:
        """The first scale with every Spec of these studies stored, else the one with the most; and its results.

        Raises KeyError where a study does not exist.
        """
        names, found = tuple(names), {}
        for scale in LOOKED_AT:
            found[scale] = {name: stored(self.specs(scale)[name], self.store) for name in names}
            if all(results and not results.missing for results in found[scale].values()):
                return self.spelled(scale, names), found[scale]
        scale = max(LOOKED_AT, key=lambda scale: sum(map(len, found[scale].values())))
        return scale, found[scale]

    def spelled(self, scale: str, names: Iterable[str]) -> str:
        alike = all(self.specs(other)[name] == self.specs(scale)[name] for other in REFERENCE_SCALES for name in names)
        return ANY if alike else scale


def rows(table: Table, store: Store | None = None) -> list[Row]:
    """Each row of a project's table with our number, or with the reason why there is none."""
    shelf = Shelf(chapter(table.subject).module, store or Store.default())
    return [row_of(line, shelf) for line in table.rows]


def row_of(line: Line, shelf: Shelf) -> Row:
    scale, studies, ours, reason = None, {}, None, line.why_not
    if line.ours:
        scale, studies = shelf.best(line.column.study) if line.column.study else (COUNTED, {})
        try:
            values = line.function()(studies)
            ours, reason = (student(values), None) if values else (None, f"no such run is stored{why(*studies.values())}")
        except NotTestable as untestable:
            reason = str(untestable)
    looked_at = tuple(result for results in studies.values() for result in results)
    return Row(line.label, line.column, line.figure, line.corrected, ours, reason, scale, looked_at)


def frame(table: Table, store: Store | None = None) -> pd.DataFrame:
    """The rows as text, for :func:`lib.book.page.table`: the row, the project's figure, the corrected one, ours."""
    return pd.DataFrame(
        [
            {
                "row": f"{row.label}: {row.column.title}",
                "the project": UNITS[row.column.unit].theirs(row.figure),
                "corrected": corrected(row),
                "ours (scale, n)": spelled_row(row),
            }
            for row in rows(table, store)
        ]
    )


def corrected(row: Row) -> str | None:
    """``"80.36 %. Mean of the four test shards."``; None where nothing is to be corrected."""
    return row.corrected and f"{UNITS[row.column.unit].theirs(row.corrected.figure)}. {row.corrected.why}"


def spelled_row(row: Row) -> str:
    """``"44.4 ± 0.6 % (cpu, CIFAR-10, n=3)"``, or the reason why there is no number, with the scale that was looked at."""
    if row.ours is None:
        return f"– ({row.reason}{f'; {row.scale}' if row.scale else ''})"
    return UNITS[row.column.unit].ours(row.ours).replace("(n=", f"({', '.join([row.scale or COUNTED, *map(title, row.data)])}, n=")
