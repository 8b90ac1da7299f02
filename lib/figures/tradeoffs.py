"""What accuracy costs: one figure for all costs of use, among which the reader chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import frontier
from lib.figures.explorer import amount
from lib.figures.theme import CLEAR, INK, RULE, Style, canvas, listed, short_number, styles, tick
from lib.figures.tradeoff_parts import FRONTIER, LINK, Baseline, Board, Frontier, Line, Networks, baseline_line, points
from lib.system.checks import did_you_mean, require

#: Pixels above the plot: the mode bar that telephones always show, a row of buttons, and what is left below it.
BAR, ROW, GAP = 34, 36, 8

#: Pixels below the plot: its axis with a title, and a row of the legend, of which a telephone needs many.
BELOW, LEGEND_ROW = 50, 20

#: Pixels by which the menu and the buttons stand left of the plot, beside which the ticks are.
LEFT = 44

#: Added to the marks of the first and the second family of networks, and the sign of each on its button.
FILLS, SIGNS = ("", "-open"), ("■", "□")

#: Height of the plot itself in pixels.
PLOT = 380


@dataclass(frozen=True)
class Cost:
    """A cost of use: its words in the menu, and on the axis, where they say of what it is and in which unit."""

    word: str
    title: str


def tradeoff_explorer(
    frame: pd.DataFrame,
    costs: Mapping[str, Cost],
    families: Mapping[str, str],
    *,
    accuracy: str = "test_accuracy",
    accuracy_title: str = "test accuracy",
    format: str = ".1%",
    baseline: str = "dense",
) -> go.Figure:
    """Accuracy of all networks of a task against a cost that the reader picks; less cost and more accuracy are better.

    ``frame``     one row per run: ``family``, ``name``, ``method``, ``accuracy``, the columns that ``costs`` is keyed by
                  (missing values where a network has no such cost), and where there are any ``verdict`` (as
                  :func:`lib.measure.paired.marked` says it), ``command`` (that makes the run) and ``link`` (to what
                  the book says of it, as "page.html#section" or "#section")
    ``costs``     in the order of the menu; the first is shown first; those without any value are left out
    ``families``  what buttons call them, in their order
    ``baseline``  the method whose networks a line joins: what all others have to beat

    One point for each name in a family, the mean over its seeds, with the 95 % interval of its accuracy.  The families, two
    at most, have filled and open marks; a click on the legend hides a method, a button a family.  In the book a click on a
    point follows its link (``assets/book.js``); everything else is in the figure and needs no Python and no server.
    Raises ValueError for nothing to draw, unknown families and columns, and costs that are not above 0.
    """
    for column in costs:
        require(column in frame, f"no column {column!r} in the frame.{did_you_mean(column, frame.columns)}")
    nodes = points(frame, accuracy, list(costs))
    unknown = set(nodes["family"]) - set(families)
    require(not unknown, f"families gives no name for {', '.join(sorted(map(str, unknown)))}")
    kinds = [family for family in families if family in set(nodes["family"])]
    require(len(kinds) <= len(FILLS), f"{len(kinds)} families: marks tell {len(FILLS)} apart")
    kept = {column: cost for column, cost in costs.items() if nodes[column].notna().any()}
    require(kept, "no network has any of these costs; say what is missing with lib.book.page.missing(results)")
    for column in kept:
        require(not (nodes[column] <= 0).any(), f"{column!r} holds 0 or less: its axis is logarithmic, leave such rows out")
    methods = list(dict.fromkeys([baseline] * (baseline in set(nodes["method"])) + list(nodes["method"])))
    looks, board = styles(methods), Board(nodes, accuracy, baseline, format)
    lines = [kind(board, family) for family in kinds for kind in (Frontier, Baseline)]
    networks = [
        Networks(board, family, method, looks[method], FILLS[kinds.index(family)])
        for family, method in dict.fromkeys(zip(nodes["family"], nodes["method"]))
    ]
    moving, (first, title) = [*lines, *networks], next((column, cost.title) for column, cost in kept.items())
    legend_rows = (len(methods) + 2) // 2
    top, bottom = BAR + GAP + ROW * (2 if len(kinds) > 1 else 1), BELOW + LEGEND_ROW * legend_rows
    figure = canvas(title, accuracy_title, PLOT + top + bottom, description(board, kept, families))
    figure.add_traces([part.trace(first) for part in moving])
    figure.add_traces([legend_mark(looks[method], method) for method in methods] + [legend_line()])

    menu = {
        "type": "dropdown",
        "direction": "down",
        "bgcolor": "#ffffff",
        "pad": {"b": top - BAR - ROW, "l": -LEFT},
        "buttons": [choice(column, cost, moving) for column, cost in kept.items()],
    }
    filters = {
        "type": "buttons",
        "direction": "right",
        "bgcolor": CLEAR,
        "pad": {"b": GAP, "l": -LEFT},
        "buttons": family_buttons(kinds, families, moving, len(methods) + 1),
    }
    common = {
        "showactive": True,
        "active": 0,
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "bordercolor": INK,
        "font": {"color": INK, "size": 12},
    }
    meta = dict(figure.layout.meta) | {"link": LINK}
    figure.update_layout(
        margin={"t": top, "b": bottom},
        showlegend=True,
        legend={"tracegroupgap": 0},
        meta=meta,
        updatemenus=[part | common for part in ([menu, filters] if len(kinds) > 1 else [menu])],
    )
    # Few ticks, for they stand close on a telephone.
    figure.update_xaxes(type="log", nticks=3, minor={"ticks": "outside", "ticklen": 2, "tickcolor": RULE}, **axis(first, moving))
    figure.update_yaxes(tickformat=tick(format))
    return figure


def legend_mark(look: Style, method: str) -> go.Scatter:
    """A method's entry in the legend, which stays when a family is hidden."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        name=look.label,
        legendgroup=method,
        hoverinfo="skip",
        marker={"color": look.colour, "symbol": look.symbol, "size": 10},
    )


def legend_line() -> go.Scatter:
    return go.Scatter(x=[None], y=[None], mode="lines", hoverinfo="skip", **FRONTIER)


def choice(column: str, cost: Cost, moving: list[Networks | Line]) -> dict:
    """A cost's entry in the menu: all points and lines move together, what is hidden stays hidden."""
    data = {
        "x": [part.x(column) for part in moving],
        "y": [part.y(column) for part in moving],
        "text": [part.text(column) for part in moving],
    }
    layout = {f"xaxis.{name}": value for name, value in axis(column, moving).items()}
    return {
        "method": "update",
        "label": cost.word,
        "args": [data, layout | {"xaxis.title.text": cost.title, "xaxis.autorange": True}, list(range(len(moving)))],
    }


def axis(column: str, moving: list[Networks | Line]) -> dict[str, str]:
    """How numbers of this cost are written: with a letter for thousands and more, unless some are below 1."""
    least = min(value for part in moving for value in part.x(column) if value is not None)
    letter = "s" if least >= 1 else "g"
    return {"tickformat": f"~{letter}", "hoverformat": f".3~{letter}"}


def family_buttons(kinds: list[str], families: Mapping[str, str], moving: list[Networks | Line], marks: int) -> list[dict]:
    """All networks, or those of one family; what the legend had hidden comes back."""
    shown = [(None, "both")] + [(family, f"{SIGNS[place]} {families[family]}") for place, family in enumerate(kinds)]
    return [
        {"method": "restyle", "label": label, "args": [{"visible": [family in (None, part.family) for part in moving] + [True] * marks}]}
        for family, label in shown
    ]


def description(board: Board, costs: Mapping[str, Cost], families: Mapping[str, str]) -> str:
    """The figure in words: each family's baseline from end to end and what is on its frontier, for the cost shown first."""
    column, first = next(iter(costs.items()))
    parts = [f"Points of accuracy against {first.title}."]
    for family, part in board.points.groupby("family", sort=False):
        line = baseline_line(part, column, board.accuracy, board.baseline)
        ends = (
            [
                f"{short_number(row[board.accuracy], board.format)} at {amount(row[column])}"
                for _, row in line.iloc[sorted({0, len(line) - 1})].iterrows()
            ]
            if len(line)
            else ["none is there"]
        )
        front = list(frontier(part.dropna(subset=[column]), column, board.accuracy)["name"]) or ["none"]
        parts.append(
            f"{len(part)} networks are {families[family]}. The line of {board.baseline} ones: {listed(ends)}. "
            f"On the frontier: {'; '.join(front)}."
        )
    if len(costs) > 1:
        parts.append(f"A menu changes the cost to: {'; '.join(cost.word for cost in list(costs.values())[1:])}.")
    return " ".join(parts)
