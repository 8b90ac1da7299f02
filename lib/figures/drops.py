"""What a smaller file costs: points of accuracy against how many times smaller it is, a line for each kind of method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lib.figures.axes import decades
from lib.figures.theme import canvas, listed, reference_line, rounded, styles


def drop_figure(
    frame: pd.DataFrame,
    looks: Mapping[str, str],
    *,
    x: str = "smaller",
    x_title: str = "times smaller than the file in 32 bits",
    y_title: str = "test accuracy minus the trained network's, points",
    least: float | None = None,
) -> go.Figure:
    """A mark and whisker per row, ``apart`` with ``low`` and ``high`` (fractions); the rows of one kind joined by a line.

    ``frame``  one row per network: ``name``, ``kind``, ``x``, ``apart``, ``low``, ``high``
    ``looks``  kind → what it is drawn as, a name that begins with a method's (:data:`lib.figures.theme.METHODS`)
    ``least``  points below which the axis is cut, so that what fails does not squeeze the rest; None: all is shown
    Raises ValueError for nothing to draw.
    """
    kept = frame.dropna(subset=[x, "apart"])
    if kept.empty:
        raise ValueError("no drop to draw; say what is missing with lib.book.page.missing(results)")
    kinds = [kind for kind in looks if kind in set(kept["kind"])]
    styled = styles([looks[kind] for kind in kinds])
    parts = {kind: kept[kept["kind"] == kind].sort_values(x) for kind in kinds}
    ends = [
        f"{styled[looks[kind]].label} {100 * part['apart'].iloc[-1]:+.1f} points at {part[x].iloc[-1]:.3g} times"
        for kind, part in parts.items()
    ]
    figure = canvas(
        x_title,
        y_title,
        440,
        f"Change of accuracy against compression, for {len(kept)} networks. At each kind's largest: {listed(ends)}.",
        len(kinds),
    )
    for kind, part in parts.items():
        look = styled[looks[kind]]
        figure.add_scatter(
            x=rounded(part[x]),
            y=rounded(100 * part["apart"]),
            mode="lines+markers" if len(part) > 1 else "markers",
            name=look.label,
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rounded(100 * (part["high"] - part["apart"])),
                "arrayminus": rounded(100 * (part["apart"] - part["low"])),
                "color": look.colour,
                "thickness": 1.2,
            },
            text=list(part["name"]),
            hovertemplate="%{text}<br>%{x:.3~g} times<br>%{y:+.2f} points<extra></extra>",
        )
    figure.update_xaxes(decades(kept[x]))
    if least is not None:
        figure.update_yaxes(range=[least, 100 * kept["high"].max() + 0.5])
    return reference_line(figure, 0.0, "the trained network")
