"""Masks of a layer as pictures, one structure at a time."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from lib.figures.theme import CLEAR, COLOURS, INK, RULE, canvas, listed
from lib.system.checks import require

#: Pixels above the plot: the menu beside the mode bar.
TOP = 84

#: Pixels of the picture for one weight, wide and high: large enough that a browser does not blur them.
CELL = (6, 12)


def mask_explorer(masks: Mapping[str, Tensor]) -> go.Figure:
    """The masks [O, I, kh, kw] of one layer as matrices [O, I · kh · kw], the first one shown; a menu chooses another.

    Each is a picture of two colours, a kilobyte or two: as numbers they would be a hundred times that.  Everything is in the
    figure: it needs no Python and no server.
    Raises ValueError for no masks, or for masks of different shapes.
    """
    require(masks, "no masks to show")
    shapes = {tuple(mask.shape) for mask in masks.values()}
    require(len(shapes) == 1, f"masks of one layer have one shape, not {sorted(shapes)}")
    outputs, inputs, *kernel = shapes.pop()
    size = int(np.prod(kernel))
    first, *_ = masks
    shares = listed([f"{name} {mask.float().mean().item():.1%}" for name, mask in masks.items()])
    alt = (
        f"Which weights of a layer with {outputs} filters and {inputs} channels are kept, as a matrix with a row for each filter. A menu "
        f"chooses the structure; {first} is shown first. Kept: {shares}."
    )
    figure = canvas("channel", "filter", 110 + TOP + 8 * outputs, alt)
    figure.add_scatter(
        x=[0, size * inputs], y=[0, outputs], mode="markers", marker={"opacity": 0}, hoverinfo="skip"
    )  # or axes would not be drawn
    figure.add_layout_image(
        source=picture(masks[first]), x=0, y=0, sizex=size * inputs, sizey=outputs, xref="x", yref="y", sizing="stretch", layer="above"
    )
    figure.update_layout(
        margin={"t": TOP},
        updatemenus=[
            {
                "type": "dropdown",
                "showactive": True,
                "x": 0,
                "xanchor": "left",
                "y": 1,
                "yanchor": "bottom",
                "pad": {"b": 6},
                "bgcolor": CLEAR,
                "bordercolor": RULE,
                "font": {"color": INK},
                "buttons": [
                    {"label": name, "method": "relayout", "args": [{"images[0].source": picture(mask)}]} for name, mask in masks.items()
                ],
            }
        ],
    )
    edges = range(0, inputs + 1, max(1, inputs // 4))
    figure.update_xaxes(
        range=[0, size * inputs], tickvals=[size * edge for edge in edges], ticktext=[str(edge) for edge in edges], showgrid=True
    )
    figure.update_yaxes(range=[outputs, 0], showgrid=False)
    return figure


def picture(mask: Tensor) -> str:
    """The matrix as a PNG of one bit per pixel, clear where the mask is False, as a ``data:`` address."""
    cells = mask.flatten(1).cpu().numpy().astype(np.uint8)
    pixels = np.kron(cells, np.ones(CELL[::-1], dtype=np.uint8))
    rows = np.packbits(pixels, axis=1)
    lines = np.concatenate([np.zeros((len(rows), 1), dtype=np.uint8), rows], axis=1)  # each begins with its filter: none
    colour = bytes.fromhex(COLOURS["pruning"].removeprefix("#"))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 1, 3, 0, 0, 0)  # one bit, by palette
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part)
        for part in (
            (b"IHDR", header),
            (b"PLTE", bytes(3) + colour),
            (b"tRNS", b"\x00\xff"),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
