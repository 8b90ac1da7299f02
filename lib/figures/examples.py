"""Images next to a map of what a method did with their parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lib.figures.theme import canvas, listed, rounded

#: Distance between the left edges of neighbouring images, whose width is 1.
STEP = 1.15


def image_maps(
    images: Sequence[str], maps: Sequence[Sequence[Sequence[float]]], names: Sequence[str], *, value_title: str, format: str = ""
) -> go.Figure:
    """Each image above its map: ``images`` as base64-encoded PNG, ``maps`` [H, W] of values of their parts, top row first.

    Raises ValueError for no images, or for numbers that differ.
    """
    if not images or not len(images) == len(maps) == len(names):
        raise ValueError(f"got {len(images)} images, {len(maps)} maps and {len(names)} names: give as many of each, at least one")
    means = [float(np.mean(grid)) for grid in maps]
    alt = (
        f"{len(images)} images, each above a map of {value_title} of its parts. "
        f"Means: {listed([f'{name} {mean:{format}}' for name, mean in zip(names, means)])}."
    )
    figure = canvas("", "", 330, alt)
    low, high = min(np.min(grid) for grid in maps), max(np.max(grid) for grid in maps)
    for place, (image, grid, name) in enumerate(zip(images, maps, names)):
        left = STEP * place
        figure.add_layout_image(
            source=f"data:image/png;base64,{image}", x=left, y=2.15, sizex=1, sizey=1, xref="x", yref="y", sizing="stretch", layer="below"
        )
        values = np.asarray(grid, dtype=float)[::-1]  # plotly counts rows from below
        rows, columns = values.shape
        figure.add_heatmap(
            z=[rounded(row) for row in values],
            x0=left + 0.5 / columns,
            dx=1 / columns,
            y0=0.5 / rows,
            dy=1 / rows,
            zmin=low,
            zmax=high,
            colorscale="Cividis",
            showscale=place == 0,
            name=name,
            colorbar={
                "title": {"text": value_title, "side": "bottom"},
                "orientation": "h",
                "thickness": 12,
                "x": 0,
                "xanchor": "left",
                "len": 0.6,
                "y": 1,
                "yanchor": "bottom",
                "tickformat": format,
                "outlinewidth": 0,
            },
            hovertemplate=f"{name}: %{{z:{format or '.3g'}}}<extra></extra>",
        )
        figure.add_annotation(x=left + 0.5, y=2.2, text=name, showarrow=False, yanchor="bottom", font={"size": 10})
    figure.update_xaxes(visible=False, range=[-0.05, STEP * len(images) - 0.1])
    figure.update_yaxes(visible=False, range=[-0.05, 2.55], scaleanchor="x")
    return figure
