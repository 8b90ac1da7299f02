"""What networks hold images for: a sheet of pictures, and maps on which each image is a point."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from lib.figures.theme import canvas, listed, rounded

#: Distance between the left edges of neighbouring maps, whose width is 1, and between their lower edges.
STEP, RISE = 1.12, 1.2

#: Maps in a row: two have room on a telephone.
COLUMNS = 2

#: Characters up to which a picture is kept as it is.
LARGE = 20_000


def class_maps(maps: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[int], names: Sequence[str]) -> go.Figure:
    """Maps in rows of two, each with a title: points [N, 2] coloured by their class; ``names`` of the classes by number.

    Scales and axes mean nothing, as t-SNE's do not: each map is stretched to the same square.
    Raises ValueError for no maps, or for a map with other than one point per label.
    """
    if not maps or any(len(points) != len(labels) for points in maps.values()):
        raise ValueError(
            f"got maps of {[len(points) for points in maps.values()]} points for {len(labels)} labels: "
            "give at least one map, and one point for each label"
        )
    alt = (
        f"{len(maps)} maps of {len(labels)} images, coloured by their {len(set(labels))} classes: "
        f"{listed(list(maps))}. Points that lie together are alike to the network."
    )
    rows = -(-len(maps) // COLUMNS)
    figure = canvas("", "", 60 + 240 * rows, alt)
    for place, (title, points) in enumerate(maps.items()):
        x, y = np.asarray(points, dtype=float).T
        x, y = ((values - values.min()) / (np.ptp(values) or 1.0) for values in (x, y))
        left, bottom = STEP * (place % COLUMNS), RISE * (rows - 1 - place // COLUMNS)
        figure.add_scatter(
            x=rounded(left + x, 3),
            y=rounded(bottom + y, 3),
            mode="markers",
            name=title,
            showlegend=False,
            marker={"size": 5, "color": list(labels), "colorscale": "Turbo", "cmin": 0, "cmax": len(names) - 1},
            text=[names[label] for label in labels],
            hovertemplate="%{text}<extra>" + title + "</extra>",
        )
        figure.add_annotation(x=left + 0.5, y=bottom + 1.03, text=title, showarrow=False, yanchor="bottom", font={"size": 12})
    figure.update_xaxes(visible=False, range=[-0.05, STEP * min(COLUMNS, len(maps)) - 0.05])
    figure.update_yaxes(visible=False, range=[-0.05, RISE * rows])
    return figure


def picture(image: str, alt: str, height: int = 300) -> go.Figure:
    """One picture, a base64-encoded PNG, shown as large as fits and without smoothing where the browser allows it."""
    figure = canvas("", "", height, alt)
    figure.add_layout_image(source=embedded(image), x=0, y=1, sizex=1, sizey=1, xref="paper", yref="paper", sizing="contain", layer="above")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def embedded(image: str) -> str:
    """A base64-encoded PNG as an address; as JPEG, in full colour resolution, where it is large, as noise and photographs are."""
    if len(image) <= LARGE:
        return f"data:image/png;base64,{image}"
    from PIL import Image  # imported here: few figures need it

    out = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(image))).save(out, "JPEG", quality=85, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
