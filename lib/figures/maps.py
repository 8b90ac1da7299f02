"""Heat maps: which expert serves which class or position, and how that settles over training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lib.figures.theme import canvas, rounded, short_number, tick

Matrix = Sequence[Sequence[float]]

#: Cells of all matrices of one slider together; it keeps a figure under 50 KB.
CELLS = 7000
#: Columns up to which a number has room in its cell.
READABLE = 8


def heat_map(
    values: Matrix,
    *,
    x_title: str,
    y_title: str,
    value_title: str,
    x: Sequence | None = None,
    y: Sequence | None = None,
    format: str = "",
    limits: tuple[float, float] | None = None,
) -> go.Figure:
    """A matrix as colours, first row on top.  x, y: names of columns and rows, else their numbers from 0.

    limits: values of the ends of the colour scale, else the lowest and highest of the data.
    """
    grid = np.asarray(values, dtype=float)
    alt = (
        f"Heat map of {value_title}: {y_title} by {x_title}, {grid.shape[0]} by {grid.shape[1]}. "
        f"{peak(grid, x, y, x_title, y_title, format)}"
    )
    height = 150 + min(480, max(160, 22 * grid.shape[0]))
    figure = canvas(x_title, y_title, height, alt)
    low, high = limits or (np.nanmin(grid), np.nanmax(grid))
    figure.add_heatmap(
        z=[rounded(row, 3) for row in grid],
        x=names(x, grid.shape[1]),
        y=names(y, grid.shape[0]),
        name=value_title,
        zmin=float(low),
        zmax=float(high),
        colorscale="Cividis",
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": value_title, "side": "bottom"},
            "orientation": "h",
            "thickness": 12,
            "yref": "container",
            "y": 0.98,
            "yanchor": "top",
            "x": 0,
            "xanchor": "left",
            "len": 0.6,
            "tickformat": tick(format),
            "outlinewidth": 0,
        },
        texttemplate=f"%{{z:{format or '.3~g'}}}" if grid.shape[1] <= READABLE else None,
        hovertemplate=f"{y_title} %{{y}}, {x_title} %{{x}}: %{{z:{format or '.3~g'}}}<extra></extra>",
    )
    figure.update_layout(margin={"t": 92})  # the scale stands there, beside the mode bar
    figure.update_xaxes(type="category", showgrid=False, ticks="")
    figure.update_yaxes(type="category", showgrid=False, ticks="", autorange="reversed")
    return figure


def heat_map_over_time(
    matrices: Sequence[Matrix],
    steps: Sequence,
    *,
    step_title: str = "epoch",
    x_title: str,
    y_title: str,
    value_title: str,
    x: Sequence | None = None,
    y: Sequence | None = None,
    format: str = "",
) -> go.Figure:
    """A heat map with a slider over training; the last step is shown first and the colour scale stays.

    Each stop of the slider carries its own matrix, so the figure needs neither a server nor frames.  Of more
    steps than a small figure can hold, evenly spaced ones are kept, the first and last among them.
    Raises ValueError when steps and matrices differ in number.
    """
    if len(matrices) != len(steps) or not len(steps):
        raise ValueError(f"{len(matrices)} matrices for {len(steps)} steps; give one matrix per step")
    room = max(2, CELLS // np.asarray(matrices[0]).size - 1)  # the one shown first is stored twice
    kept = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), room)).round().astype(int))
    grids, steps = [np.asarray(matrices[i], dtype=float) for i in kept], [steps[i] for i in kept]
    low, high = min(np.nanmin(grid) for grid in grids), max(np.nanmax(grid) for grid in grids)
    figure = heat_map(grids[-1], x_title=x_title, y_title=y_title, value_title=value_title, x=x, y=y, format=format, limits=(low, high))
    stops = [
        {"method": "restyle", "label": str(step), "args": [{"z": [[rounded(row, 3) for row in grid]]}]} for step, grid in zip(steps, grids)
    ]
    figure.update_layout(
        height=figure.layout.height + 70,
        sliders=[
            {
                "active": len(stops) - 1,
                "steps": stops,
                "pad": {"t": 50, "b": 4},
                "currentvalue": {"prefix": f"{step_title} "},
                "x": 0,
                "len": 1,
            }
        ],
        meta={
            "alt": f"{figure.layout.meta['alt']} A slider shows {len(steps)} moments from {step_title} {steps[0]} "
            f"to {steps[-1]}; what is said here is the last."
        },
    )
    return figure


def names(given: Sequence | None, count: int) -> list[str]:
    if given is not None and len(given) != count:
        raise ValueError(f"{len(given)} names for {count} rows or columns")
    return [str(name) for name in (given if given is not None else np.arange(count))]


def peak(grid: np.ndarray, x: Sequence | None, y: Sequence | None, x_title: str, y_title: str, format: str) -> str:
    row, column = np.unravel_index(np.nanargmax(grid), grid.shape)
    return (
        f"From {short_number(np.nanmin(grid), format)} to {short_number(np.nanmax(grid), format)}, the highest at "
        f"{y_title} {names(y, grid.shape[0])[row]}, {x_title} {names(x, grid.shape[1])[column]}."
    )
