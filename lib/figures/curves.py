"""Curves over training: one line per configuration, a band over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib.figures.axes import decades
from lib.figures.theme import canvas, listed, rounded, short_number, styles, tick

#: Points of all lines, and of all bands, of one figure together: a figure stays under 50 KB however long training is.
LINE_POINTS, BAND_POINTS = 1000, 400


def learning_curves(
    frame: pd.DataFrame,
    y: str,
    by: str,
    *,
    x: str = "step",
    x_title: str = "epoch",
    y_title: str | None = None,
    format: str = "",
    log: bool = False,
) -> go.Figure:
    """Mean over seeds as a line, the range from the lowest to the highest seed as a band.

    frame: long form with a row per result and step, as ``Results.curves(y)`` gives it.
    format: how ``y`` prints, such as ".1%".  Long curves are thinned, their extremes kept.
    """
    groups = {name: over_seeds(part, x, y) for name, part in frame.groupby(by, sort=False)}
    if not groups:
        raise ValueError("no curves to draw; say what is missing with lib.book.page.missing(results)")
    looks = styles(groups)
    y_title = y_title or y
    ends = [f"{looks[name].label} {short_number(part['mean'].iloc[-1], format)}" for name, part in groups.items()]
    over = ", mean over seeds with the range of the seeds" if any(part["n"].max() > 1 for part in groups.values()) else ""
    alt = f"Lines of {y_title} against {x_title}{over}. At the end: {listed(ends)}."
    figure = canvas(x_title, y_title, 380, alt, len(groups))
    figure.update_yaxes(decades(frame[y].dropna(), tick(format)) if log else {"tickformat": tick(format)})
    for name, part in groups.items():
        look = looks[name]
        runs = int(part["n"].max())
        if runs > 1:
            band = part.iloc[thin([part["high"], part["low"]], BAND_POINTS // len(groups))]
            steps = rounded(band[x], 6)
            figure.add_scatter(
                x=steps + steps[::-1],
                y=rounded(band["high"]) + rounded(band["low"])[::-1],
                fill="toself",
                fillcolor=look.colour,
                opacity=0.18,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=str(name),
                showlegend=False,
                name=f"{look.label}, range of {runs} seeds",
            )
        part = part.iloc[thin([part["mean"]], LINE_POINTS // len(groups))]
        figure.add_scatter(
            x=rounded(part[x], 6),
            y=rounded(part["mean"]),
            mode="lines" if len(part) > 1 else "markers",
            name=look.label,
            legendgroup=str(name),
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"color": look.colour, "symbol": look.symbol},
            hovertemplate=f"{look.label}<br>{x_title} %{{x}}: %{{y:{format or '.4~g'}}}"
            + (f" (n={runs})" if runs > 1 else "")
            + "<extra></extra>",
        )
    return figure


def over_seeds(part: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Mean, lowest, highest and count of ``y`` at each ``x``; steps no run reached are left out."""
    values = part.dropna(subset=[y]).groupby(x)[y]
    return values.agg(mean="mean", low="min", high="max", n="count").reset_index()


def thin(columns: Sequence[Sequence[float]], points: int) -> list[int]:
    """Indices of at most ``points`` entries that keep both ends and the extremes of every column.

    The columns share their positions, which are cut into equal stretches; of each stretch the first column's
    lowest and highest entry stay, so that its peaks survive.
    """
    values = np.asarray([np.asarray(column, dtype=float) for column in columns])
    length = values.shape[1]
    if length <= points:
        return list(range(length))
    kept = {0, length - 1, *values.argmin(axis=1).tolist(), *values.argmax(axis=1).tolist()}
    for positions in np.array_split(np.arange(length), max(1, (points - len(kept)) // 2)):
        kept.update((int(positions[values[0, positions].argmin()]), int(positions[values[0, positions].argmax()])))
    return sorted(kept)
