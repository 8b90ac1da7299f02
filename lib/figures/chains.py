"""The same methods in another order: what comes of it, and how large the file is."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import estimates, told, whiskers
from lib.figures.explorer import amount
from lib.figures.theme import NEUTRAL, RULE, canvas, rounded, tick, wrapped

#: Between the stages of a chain's name.
ARROW = " → "

#: Characters of a line of a chain's name.
WIDTH = 22


def chain_figure(
    frame: pd.DataFrame, *, value: str = "test_accuracy", title: str = "test accuracy", size: str = "file_bytes", format: str = ".1%"
) -> go.Figure:
    """The same stages in different orders: accuracy after each chain, file sizes beside, chains of the same stages together.

    ``frame``  one row per run: ``name``, the stages in their order joined by " → ", ``value``, and ``size`` in bytes

    Within a group the most accurate order is on top; each seed is a faint dot, the mean a solid mark with its 95 % interval.
    Raises ValueError for nothing to draw.
    """
    found = estimates(frame, value, "name")
    sizes = {name: f"{amount(held)}B" for name, held in frame.groupby("name")[size].mean().items()}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(found, key=lambda name: -found[name].mean):
        groups.setdefault(stages(name), []).append(name)
    heights = rows_of(groups)
    labels = {name: wrapped(name, WIDTH) for name in heights}
    lines = max(label.count("<br>") + 1 for label in labels.values())
    highest = max(heights.values())
    figure = canvas(title, "", round(98 + max(34, 15 * lines) * (highest + 1)), described(groups, found, sizes, title, format))
    for place, names in enumerate(groups.values()):
        colour, symbol = NEUTRAL[place % len(NEUTRAL)]
        seeds = frame[frame["name"].isin(names)].dropna(subset=[value])
        figure.add_scatter(  # just below their mean, where its mark does not hide them
            x=rounded(seeds[value]),
            y=[heights[name] - 0.25 for name in seeds["name"]],
            mode="markers",
            opacity=0.45,
            name="one seed",
            marker={"color": colour, "size": 5},
            hovertemplate=f"one seed: %{{x:{format}}}<extra></extra>",
        )
        figure.add_scatter(
            x=rounded(found[name].mean for name in names),
            y=[heights[name] for name in names],
            mode="markers",
            name=" with ".join(stages(names[0])),
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_x=whiskers([found[name] for name in names]) | {"color": colour},
            text=[f"{labels[name]}<br>{told(found[name], format)}<br>{sizes[name]}" for name in names],
            hovertemplate="%{text}<extra></extra>",
        )
        if place:
            figure.add_hline(heights[names[0]] + 0.75, line={"color": RULE, "width": 1})
    rows = {"range": [-0.6, highest + 0.6], "tickvals": list(heights.values()), "tickfont": {"size": 11}, "showgrid": False}
    figure.update_yaxes(rows, ticktext=list(labels.values()))
    # The sizes are the ticks of a second axis, which needs a point, although an unseen one, to be drawn.
    figure.add_scatter(x=[None], y=[0], yaxis="y2", name="file size")
    figure.update_layout(
        yaxis2=rows | {"overlaying": "y", "side": "right", "ticks": "", "showline": False, "ticktext": [sizes[name] for name in heights]}
    )
    figure.add_annotation(
        text="file size", xref="paper", yref="paper", x=1, y=1, xanchor="left", yanchor="bottom", showarrow=False, font={"size": 11}
    )
    figure.update_layout(margin={"t": 52})  # the mode bar stands above the head of the sizes
    figure.update_xaxes(tickformat=tick(format), nticks=6)
    return figure


def stages(name: str) -> tuple[str, ...]:
    """What a chain consists of, whatever its order."""
    return tuple(sorted(name.split(ARROW)))


def rows_of(groups: Mapping[tuple[str, ...], list[str]]) -> dict[str, float]:
    """The height of each chain's row, from the top down: one apart, and half a row more between groups."""
    heights, height = {}, 0.0
    for names in reversed(groups.values()):
        for name in reversed(names):
            heights[name], height = height, height + 1
        height += 0.5
    return dict(reversed(heights.items()))


def described(groups: Mapping[tuple[str, ...], list[str]], found: Mapping, sizes: Mapping[str, str], title: str, format: str) -> str:
    """The best and the worst order of each set of stages."""
    parts = []
    for names in groups.values():
        best, worst = names[0], names[-1]
        other = f", against {told(found[worst], format)} for {worst}" if worst != best else ""
        parts.append(f"{best}: {told(found[best], format)} in {sizes[best]}{other}")
    return (
        f"{title} of {sum(map(len, groups.values()))} chains of methods with 95 % intervals and file sizes. "
        f"Best order of each set of stages: {'; '.join(parts)}."
    )
