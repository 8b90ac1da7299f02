"""Runs picked for a table or a sentence: by name, by metric, by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from lib.runs.results import Result, Results


def joined(*results: Results) -> Results:
    """Return several studies as one, with all that they lack."""
    return Results(tuple(r for one in results for r in one), tuple(absent for one in results for absent in one.missing))


def named(results: Results, called: Callable[[Result], str], names: Iterable[str]) -> Results:
    """Return the runs that are called by one of these names; what the study lacks stays with them."""
    names = set(names)
    return Results(tuple(r for r in results if called(r) in names), results.missing)


def column(results: Iterable[Result], metric: str = "test_accuracy") -> list[float]:
    """Return a metric of each run that has it."""
    return [r.metrics[metric] for r in results if r.metrics.get(metric) is not None]


def grouped(results: Iterable[Result], called: Callable[[Result], str]) -> dict[str, list[Result]]:
    """Return the runs by what they are called, in order of appearance."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(called(result), []).append(result)
    return found


def gains(runs: Iterable[Result], base: Iterable[Result], metric: str = "test_accuracy") -> list[float]:
    """Return a metric of each run minus the base's of the same seed; runs whose seed the base lacks are left out."""
    other = {r.fields["seed"]: r.metrics[metric] for r in base}
    return [r.metrics[metric] - other[r.fields["seed"]] for r in runs if r.fields["seed"] in other]


def accuracies(results: Iterable[Result], called: Callable[[Result], str]) -> pd.DataFrame:
    """Return a row per run with what it is called (``method``), its ``seed`` and its test ``accuracy``; the columns without runs, too."""
    rows = [(called(r), r.fields["seed"], r.metrics["test_accuracy"]) for r in results]
    return pd.DataFrame(rows, columns=["method", "seed", "accuracy"])


def chosen(frame: pd.DataFrame, **fields: Any) -> pd.DataFrame:
    """Return the rows with these values; a frame without such a column has none."""
    for name, value in fields.items():
        if name not in frame:
            return frame.iloc[:0]
        frame = frame[frame[name] == value]
    return frame
