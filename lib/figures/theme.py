"""The look all figures share, and the colour, mark and name of each method throughout the book.

Colours were chosen in OKLab to stay apart for readers with normal, protanopic and deuteranopic sight and to
keep a contrast of at least 2.3 against both a white and a near-black page.  So many colours cannot all be
told apart by everyone, so each method has its own mark as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from lib.moe.routers import ROUTERS


@dataclass(frozen=True)
class Method:
    """How a method is written and drawn wherever it appears."""

    label: str
    colour: str
    symbol: str


METHODS = {
    "dense": Method("Dense", "#777777", "square"),
    **{name.replace("-", "_"): Method(router.label, router.colour, router.symbol) for name, router in ROUTERS.items()},
    "ewa": Method("EWA", "#1b9d5e", "pentagon"),
    "elastic": Method("Elastic", "#5988ff", "hourglass"),
    "growth": Method("Growth", "#006b2e", "triangle-right"),
    "pruning": Method("Pruning", "#a72b7a", "triangle-left"),
    "quantization": Method("Quantization", "#cd81cc", "diamond-tall"),
    "distillation": Method("Distillation", "#ff7696", "star-diamond"),
    "attention": Method("Attention", "#166471", "octagon"),
    "privacy": Method("Private inference", "#6a6555", "hexagram"),
    "Linformer": Method("Linformer", "#d9742b", "diamond-open"),
    "Performer": Method("Performer", "#d1487f", "square-open"),
    "early_exit": Method("Early exit", "#a860cc", "star-square"),
    "combined": Method("Combined", "#00908d", "diamond-wide"),
}

COLOURS = {name: method.colour for name, method in METHODS.items()}

#: For series that belong to no method: executors, widths, seeds.
NEUTRAL = (
    ("#3f63c4", "circle"),
    ("#0f8aa6", "square"),
    ("#2f9e62", "diamond"),
    ("#a3930f", "triangle-up"),
    ("#d9742b", "cross"),
    ("#d1487f", "x"),
    ("#8d5fd3", "star"),
    ("#6f7a82", "hexagon"),
)

#: Variants of one method share its colour and are told apart by these, as lines and as bars.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
HATCHES = ("", "/", ".", "x", "-", "|")

#: Buttons that do nothing for these figures, and the one that sends a figure's data to plotly's servers.
UNWANTED = ["autoScale2d", "lasso2d", "select2d", "pan2d", "sendChartToCloud"]


@dataclass(frozen=True)
class Style:
    """How one series of one figure is drawn."""

    label: str
    colour: str
    symbol: str
    variant: int = 0

    @property
    def dash(self) -> str:
        return DASHES[self.variant % len(DASHES)]

    @property
    def hatch(self) -> str:
        return HATCHES[self.variant % len(HATCHES)]


def styles(names: Iterable[Any]) -> dict[Any, Style]:
    """A style for each series.  Variants of one method share its colour and mark."""
    found: dict[Any, Style] = {}
    used: dict[str, int] = {}
    for name in names:
        method = method_of(str(name))
        family = method or "no method"
        turn = used.get(family, 0)
        used[family] = turn + 1
        if method:
            base = METHODS[method]
            label, colour, symbol = base.label + str(name)[len(method) :], base.colour, base.symbol
            found[name] = Style(label, colour, symbol, turn)
        else:
            colour, symbol = NEUTRAL[turn % len(NEUTRAL)]
            found[name] = Style(str(name), colour, symbol, turn // len(NEUTRAL))
    return found


def label(name: str) -> str:
    """A series as the book writes it: ``label("expert-choice, 16 experts")`` is "Expert choice, 16 experts"."""
    return styles([name])[name].label


def method_of(name: str) -> str | None:
    """The method a series belongs to by the beginning of its name; routers' names have hyphens for underscores."""
    for method in sorted(METHODS, key=len, reverse=True):
        if re.match(rf"{method}(?![a-z0-9_])", name.replace("-", "_")):
            return method
    return None


def said_above(text: str) -> dict[str, Any]:
    """Return the annotation that says above a plot, at its left edge, what a control has chosen."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 1,
        "yshift": 6,
        "xanchor": "left",
        "yanchor": "bottom",
        "align": "left",
        "showarrow": False,
        "font": {"size": 12},
    }


def wrapped(label: str, width: int = 18) -> str:
    """A label broken into lines, so that row names leave room for the plot on a narrow page."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


CLEAR = "rgba(0,0,0,0)"
RULE = "rgba(128,128,128,0.25)"
INK = "#7b7b7b"  # readable on a light and on a dark page; the rendered book puts its own ink in its place

AXIS = {
    "gridcolor": RULE,
    "linecolor": RULE,
    "zerolinecolor": RULE,
    "zeroline": False,
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": RULE,
    "automargin": True,
    "title": {"standoff": 8},
}

pio.templates["edlm"] = go.layout.Template(
    layout={
        "font": {"family": "inherit", "size": 13, "color": INK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "colorway": [colour for colour, _ in NEUTRAL],
        "xaxis": AXIS,
        "yaxis": AXIS,
        "margin": {"l": 8, "r": 12, "t": 34, "b": 8},  # on top, room for the mode bar that phones always show
        # Below the plot: there it covers no data and takes no width from a narrow page.
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left", "bgcolor": CLEAR},
        "hoverlabel": {"namelength": -1, "align": "left"},
        "hovermode": "closest",
        "dragmode": False,  # a finger scrolls the page; the mode bar still zooms
    }
)


def canvas(x_title: str, y_title: str, height: int, alt: str, series: int = 0) -> go.Figure:
    """An empty figure in the book's look.  ``series`` in the legend make it taller, by what they need at 400 px."""
    legend_rows = (series + 1) // 2 if series > 1 else 0
    return go.Figure(
        layout={
            "template": "edlm",
            "height": height + 20 * legend_rows,
            "showlegend": series > 1,
            "modebar": {"remove": UNWANTED},
            "xaxis": {"title": {"text": x_title}},
            "yaxis": {"title": {"text": y_title}},
            "meta": {"alt": alt},
        }
    )


def reference_line(figure: go.Figure, value: float, text: str, axis: str = "y") -> go.Figure:
    """A dashed line across the plot with its name, such as a paper's figure or an entropy floor.

    Adds to ``figure`` and returns it.
    """
    where = "top left" if axis == "y" else "top right"
    add = figure.add_hline if axis == "y" else figure.add_vline
    add(value, line={"color": INK, "width": 1, "dash": "dash"}, annotation={"text": text, "font": {"size": 11}}, annotation_position=where)
    meta = dict(figure.layout.meta or {})
    return figure.update_layout(meta=meta | {"alt": f"{meta.get('alt', '')} A line marks {text}: {short_number(value)}."})


def rounded(values: Iterable[float | None], digits: int = 4) -> list[float | int | None]:
    """Numbers to ``digits`` significant digits: what a plot can show, in a third of the bytes."""
    return [
        None if value is None or math.isnan(value) else int(value) if float(value).is_integer() else float(f"{float(value):.{digits}g}")
        for value in values
    ]


def short_number(value: float, how: str = "") -> str:
    return format(value, how) if how else f"{value:.3g}"


def tick(how: str) -> str:
    """The format of axis ticks for values printed as ``how``: the same without trailing zeros."""
    return re.sub(r"(\.\d+)([a-z%])", r"\1~\2", how)


def listed(parts: Sequence[str]) -> str:
    """ "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
