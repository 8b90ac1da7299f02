"""Results as tables with the name of each run's method, whatever a chapter calls its methods."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lib.runs.results import Result, Results


def frame(results: Results, name: Callable[[Result], str]) -> pd.DataFrame:
    """``results.frame()`` with a column ``method`` in front."""
    table = results.frame()
    table.insert(0, "method", [name(result) for result in results])
    return table


def curves(results: Results, *names: str, name: Callable[[Result], str]) -> pd.DataFrame:
    """``results.curves(*names)`` with a column ``method``."""
    table = results.curves(*names)
    called = {result.key: name(result) for result in results}
    return table.assign(method=table["key"].map(called))
