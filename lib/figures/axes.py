"""Axes: readable decades, and no room for shares that cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lib.measure.statistics import Estimate


def decades(values: Iterable[float], format: str = "") -> dict:
    """A logarithmic axis for positive ``values``: over few decades it is ticked at 1, 2 and 5 of each.

    Left to itself plotly names all nine, and their labels lie on each other.
    """
    positive = [value for value in values if value > 0]
    few = bool(positive) and math.log10(max(positive) / min(positive)) < 3
    return {"type": "log"} | ({"dtick": "D2", "tickformat": format or "~g"} if few else {"tickformat": format})


def within(found: Iterable[Estimate], format: str) -> dict:
    """For an axis of shares, those printed as per cent: intervals that leave 0 to 1 do not stretch it.

    Two seeds that differ have a 95 % interval many times as wide as what lies between them.
    """
    means = [estimate.mean for estimate in found]
    shares = format.endswith("%") and all(0 <= mean <= 1 for mean in means)
    return {"autorangeoptions": {"clipmin": 0, "clipmax": 1}} if shares else {}
