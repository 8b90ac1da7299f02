"""A sheet of pictures as a figure."""

from __future__ import annotations

import base64
import io

import plotly.graph_objects as go

from lib.figures.theme import canvas

#: Characters up to which a picture is kept as it is.
LARGE = 20_000


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
