"""Rows compared with a reference: how far they are apart, and whether a count predicts a time."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lib.figures.axes import decades
from lib.figures.theme import INK, canvas, listed, reference_line, rounded, styles, wrapped


def difference_figure(frame: pd.DataFrame, *, title: str = "test accuracy minus the dense network's, points") -> go.Figure:
    """One dot and whisker per row, ``apart`` with ``low`` and ``high`` (fractions), by falling difference in each family.

    ``frame``  one row per run or network: ``family``, ``name``, ``method``, ``apart``, ``low``, ``high``; equal names of a
               family count once, and those called "dense" are the line at zero.
    Raises ValueError for nothing to draw.
    """
    kept = frame[frame["name"] != "dense"].dropna(subset=["apart"]).drop_duplicates(["family", "name"])
    if kept.empty:
        raise ValueError("no difference to draw; say what is missing with lib.book.page.missing(results)")
    kept = kept.sort_values(["family", "apart"], ascending=[False, True])
    labels = [f"{row.name_} ({row.family})" for row in kept.rename(columns={"name": "name_"}).itertuples()]
    looks = styles(list(dict.fromkeys(kept["method"])))
    above = kept[kept["low"] > 0]
    alt = (
        f"Differences from the dense network for {len(kept)} networks, from {100 * kept['apart'].min():+.1f} to "
        f"{100 * kept['apart'].max():+.1f} points; {len(above)} lie wholly above zero"
        + (f": {listed(list(above['name']))}." if len(above) else ".")
    )
    figure = canvas(title, "", 110 + 22 * len(kept), alt, len(looks))
    for method, look in looks.items():
        at = [place for place, found in enumerate(kept["method"]) if found == method]
        part = kept.iloc[at]
        figure.add_scatter(
            x=rounded(100 * part["apart"]),
            y=at,
            mode="markers",
            name=look.label,
            marker={"color": look.colour, "symbol": look.symbol, "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rounded(100 * (part["high"] - part["apart"])),
                "arrayminus": rounded(100 * (part["apart"] - part["low"])),
                "color": look.colour,
                "thickness": 1.5,
            },
            text=[labels[place] for place in at],
            hovertemplate="%{text}<br>%{x:+.2f} points<extra></extra>",
        )
    figure.update_yaxes(
        tickvals=list(range(len(kept))),
        ticktext=[wrapped(label, 40) for label in labels],
        tickfont={"size": 10},
        range=[-0.7, len(kept) - 0.3],
        showgrid=False,
    )
    return reference_line(figure, 0.0, "the dense network", axis="x")


def predicted_figure(frame: pd.DataFrame, x: str, y: str, *, x_title: str, y_title: str) -> go.Figure:
    """``y`` against ``x``, both over the dense network's, with the diagonal on which they agree; logarithmic axes.

    ``frame``  one row per network and batch: ``name``, ``family``, ``method``, ``batch``
    Raises ValueError for nothing to draw.
    """
    kept = frame.dropna(subset=[x, y])
    if kept.empty:
        raise ValueError(f"no values of {x!r} and {y!r} to draw; say what is missing with lib.book.page.missing(results)")
    batches = sorted(kept["batch"].unique())
    looks = styles(list(dict.fromkeys(kept["method"])))
    off = (kept[y] / kept[x]).median()
    alt = (
        f"{y_title} against {x_title} for {kept['name'].nunique()} networks in batches of "
        f"{listed([str(b) for b in batches])}; the median network lies at {off:.2f} times what the diagonal says."
    )
    figure = canvas(x_title, y_title, 420, alt, len(looks))
    ends = [min(kept[x].min(), kept[y].min()) * 0.9, max(kept[x].max(), kept[y].max()) * 1.1]
    figure.add_scatter(x=ends, y=ends, mode="lines", name="as predicted", hoverinfo="skip", line={"color": INK, "width": 1, "dash": "dot"})
    for method, look in looks.items():
        for batch in batches:
            part = kept[(kept["method"] == method) & (kept["batch"] == batch)]
            open_mark = "-open" if batch == batches[0] and len(batches) > 1 else ""
            figure.add_scatter(
                x=rounded(part[x]),
                y=rounded(part[y]),
                mode="markers",
                name=look.label,
                legendgroup=method,
                showlegend=bool(batch == batches[0]),
                marker={"color": look.colour, "symbol": look.symbol + open_mark, "size": 9},
                text=[f"{name} ({family}), batch {batch}" for name, family in zip(part["name"], part["family"])],
                hovertemplate="%{text}<br>" + f"{x_title} %{{x:.3~g}}<br>{y_title} %{{y:.3~g}}<extra></extra>",
            )
    figure.update_xaxes(decades(ends))
    figure.update_yaxes(decades(ends))
    return figure


def growth_figure(frame: pd.DataFrame) -> go.Figure:
    """Time over that of the first size against FLOPs over the first size's, one line per series; logarithmic axes.

    ``frame``  that of :func:`lib.studies.benchmarks.scaling.frame`; forward passes are drawn.  On the diagonal time
    grows as work does, below it the larger size uses the machine better.  Raises ValueError for nothing to draw.
    """
    kept = frame[frame["passes"] == "forward"]
    if kept.empty:
        raise ValueError("no forward pass to draw; say what is missing with lib.book.page.missing(results)")
    series = list(dict.fromkeys(zip(kept["axis"], kept["series"])))
    names = [f"{axis}: {what}" for axis, what in series]
    looks = styles(names)
    parts = [kept[(kept["axis"] == axis) & (kept["series"] == what)] for axis, what in series]
    ends = [
        f"{name}: {part['flops_grown'].iloc[-1]:.3g} times the work in {part['grown'].iloc[-1]:.3g} times the time"
        for name, part in zip(names, parts)
    ]
    figure = canvas(
        "FLOPs over the first size's",
        "time over the first size's",
        420,
        f"Growth of time with work, at the last size. {'; '.join(ends)}.",
        len(names),
    )
    span = [kept["flops_grown"].min(), kept["flops_grown"].max()]
    figure.add_scatter(x=span, y=span, mode="lines", name="as work grows", hoverinfo="skip", line={"color": INK, "width": 1, "dash": "dot"})
    for name, part in zip(names, parts):
        look = looks[name]
        figure.add_scatter(
            x=rounded(part["flops_grown"]),
            y=rounded(part["grown"]),
            mode="lines+markers",
            name=look.label,
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rounded(part["grown_p95"] - part["grown"]),
                "arrayminus": rounded(part["grown"] - part["grown_p05"]),
                "color": look.colour,
                "thickness": 1,
            },
            text=[f"{value:g}" for value in part["value"]],
            hovertemplate=f"{look.label} %{{text}}<br>work %{{x:.3~g}}×, time %{{y:.3~g}}×<extra></extra>",
        )
    figure.update_xaxes(decades(kept["flops_grown"]))
    figure.update_yaxes(decades(kept["grown"]))
    return figure
