"""How many claims came out how: one bar per chapter, a part per verdict."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from lib.claims.verdict import COLOURS
from lib.figures.theme import canvas, listed, tick, wrapped

#: A part of a bar that is smaller than this share of the longest one has no number in it.
LEAST_WRITTEN = 0.02


def verdict_bars(counts: Mapping[str, Mapping[str, float]], *, title: str = "claims", format: str = "d") -> go.Figure:
    """Draw how much there is of each verdict, a bar for each row.

    ``counts``  name of a row → verdict → number of claims, or share of them; the first row is on top
    """
    used = [verdict for verdict in COLOURS if any(row.get(verdict) for row in counts.values())]
    alt = f"{title[:1].upper()}{title[1:]} by verdict. " + " ".join(
        f"{name}: {listed([f'{row[verdict]:{format}} {verdict}' for verdict in used if row.get(verdict)] or ['none'])}."
        for name, row in counts.items()
    )
    names = {name: wrapped(name) for name in counts}
    lines = max(name.count("<br>") + 1 for name in names.values())
    figure = canvas(title, "", 80 + max(34, 17 * lines) * len(counts), alt, series=len(used))
    most = max(sum(row.values()) for row in counts.values())
    for verdict in used:
        numbers = [row.get(verdict, 0) for row in counts.values()]
        figure.add_bar(
            x=numbers,
            y=list(names.values()),
            orientation="h",
            name=verdict,
            text=[f"{number:{format}}" if number >= LEAST_WRITTEN * most else "" for number in numbers],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            textfont={"color": "#111111"},
            marker={"color": COLOURS[verdict], "line": {"width": 0}},
            hovertemplate=f"%{{y}}: %{{x:{format}}} {verdict}<extra></extra>",
        )
    figure.update_xaxes(tickformat=tick(format) if format != "d" else None)
    figure.update_layout(barmode="stack", bargap=0.35, legend={"traceorder": "normal"})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure
