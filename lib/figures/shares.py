"""Accuracy over the share of the weights that is left: the figure, its words, and who is best at its narrow end."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import scaling
from lib.figures.sentences import best
from lib.figures.theme import reference_line


def over_shares(rows: pd.DataFrame, dense: float | None = None, named: str = "dense") -> go.Figure:
    """Return the figure of ``accuracy`` over ``density`` by ``method``; ``dense``: the accuracy of a line that is called ``named``."""
    figure = scaling(rows, "density", "accuracy", "method", x_title="share of the weights left", y_title="test accuracy", format=".1%")
    if dense is not None:
        reference_line(figure, dense, named)
    return ticks(figure, rows["density"]).update_layout(meta=dict(figure.layout.meta or {}) | {"alt": told(rows)})


def ticks(figure: go.Figure, shares: Iterable[float], least: float = 0.16) -> go.Figure:
    """Return the figure with its logarithmic axis ticked in per cent at shares apart by ``least`` of its length, the largest on the left."""
    logs = np.log(sorted(set(np.round(list(shares), 3)), reverse=True))
    kept = [logs[0]]
    for value in logs:
        if kept[-1] - value >= least * (logs[0] - logs[-1]) > 0:
            kept.append(value)
    words = [f"{100 * share:.3g}%" for share in np.exp(kept)]
    return figure.update_xaxes(tickvals=np.exp(kept).tolist(), ticktext=words, autorange="reversed")


def told(rows: pd.DataFrame) -> str:
    """Return what such a figure shows, in words: its narrow end."""
    ends = [
        f"{name} {part[part['density'] == part['density'].min()]['accuracy'].mean():.1%} at {part['density'].min():.1%}"
        for name, part in rows.groupby("method", sort=False)
    ]
    return f"Test accuracy against the share of the weights left. At the smallest share of each: {', '.join(ends)}."


def at_narrow_end(rows: pd.DataFrame) -> str:
    """Return who is best at the smallest share that all have; "" where there is none below the whole."""
    shared = set.intersection(*(set(part["density"]) for _, part in rows.groupby("method")))
    if not shared or min(shared) == 1:
        return ""
    return f"With {min(shared):.1%} of the weights left: " + best(rows[rows["density"] == min(shared)], "accuracy", what="test accuracy")
