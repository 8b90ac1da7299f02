"""What the functions behind our column beside the student projects' tables share: their names, and how they fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Results

Studies = Mapping[str, Results]

#: Name in ``data/projects.yml`` → function, of all modules that were imported.
VALUES: dict[str, Callable[..., list[float]]] = {}


def value(function: Callable[..., list[float]]) -> Callable[..., list[float]]:
    """Make a function known to ``data/projects.yml`` by its name."""
    VALUES[function.__name__] = function
    return function


def metric(runs: Results, name: str) -> list[float]:
    """The metric of each run; NotTestable where there is no run, or where runs of this size have no such number."""
    if not runs:
        raise NotTestable(f"no such run is stored at this scale{why(runs)}")
    try:
        return [run.metrics[name] for run in runs]
    except KeyError:
        raise NotTestable("runs of this size do not have this number") from None
