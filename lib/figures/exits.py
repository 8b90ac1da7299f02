"""Accuracy against work for a network that images may leave early, with a slider for the work there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from lib.figures.theme import COLOURS, INK, canvas, listed, rounded, said_above, short_number, tick
from lib.system.checks import require

#: Pixels above the plot, for the description, and below it, for its axis and the slider.
TOP, BOTTOM = 92, 150

#: Places on the slider at most.
STEPS = 24

#: Marks of networks whole; the first is the plain one.
MARKS = ("square", "diamond", "triangle-up", "cross", "x", "star", "circle", "pentagon")

Row = Mapping[str, Any]


def exit_explorer(
    found: Sequence[Row], alike: Sequence[Row], points: Mapping[str, tuple[float, float]], *, format: str = ".1%"
) -> go.Figure:
    """A line for thresholds found by a search, one for a threshold that all classifiers share, points for networks whole.

    ``found``, ``alike``  rows of ``test_flops``, ``test_accuracy`` and ``thresholds``, the cheapest first
    ``points``            by name, FLOPs and test accuracy of what takes all images through the same layers

    A slider moves along ``found`` and tells the thresholds in words.  Everything is in the figure: it needs no Python and
    no server.  Raises ValueError when nothing was found.
    """
    require(len(found) and len(alike), "no thresholds to choose from; say what is missing with lib.book.page.missing(results)")
    rows = [found[place] for place in sorted({round(i * (len(found) - 1) / (STEPS - 1)) for i in range(STEPS)})]
    start = len(rows) // 2
    figure = canvas(
        "thousand FLOPs per image", "test accuracy", 300 + TOP + BOTTOM, described(rows, alike, points, format), 3 + len(points)
    )
    for name, line, colour, dash in (
        ("thresholds found", found, COLOURS["distillation"], "solid"),
        ("one threshold for all", alike, INK, "dash"),
    ):
        figure.add_scatter(
            x=thousands(*line),
            y=rounded(row["test_accuracy"] for row in line),
            name=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"color": colour, "size": 6},
            text=[", ".join(f"{t:.2f}" for t in row["thresholds"]) for row in line],
            hovertemplate=f"{name} %{{text}}<br>%{{x:.4~g}} thousand FLOPs: %{{y:{format}}}<extra></extra>",
        )
    for turn, (name, (flops, accuracy)) in enumerate(points.items()):
        figure.add_scatter(
            x=rounded([flops / 1e3]),
            y=rounded([accuracy]),
            name=name,
            mode="markers",
            marker={"size": 10, "symbol": MARKS[turn % len(MARKS)], "color": COLOURS["elastic" if turn else "dense"]},
            hovertemplate=f"{name}<br>%{{x:.4~g}} thousand FLOPs: %{{y:{format}}}<extra></extra>",
        )
    figure.add_scatter(
        x=thousands(rows[start]),
        y=rounded([rows[start]["test_accuracy"]]),
        mode="markers",
        name="chosen",
        hoverinfo="skip",
        marker={"color": COLOURS["whole_network"], "size": 15, "symbol": "circle-open", "line": {"width": 3}},
    )
    figure.update_layout(
        margin={"t": TOP, "b": BOTTOM + 20 * ((4 + len(points)) // 2)},
        sliders=[slider(rows, start, len(figure.data) - 1, format)],
        annotations=[description(rows[start], format)],
    )
    figure.update_yaxes(tickformat=tick(format))
    return figure


def slider(rows: Sequence[Row], start: int, trace: int, format: str) -> dict:
    """One step per row, which moves the trace of the chosen one and tells its thresholds."""
    steps = [
        {
            "method": "update",
            "label": f"{row['test_flops'] / 1e3:,.0f}",
            "args": [{"x": [thousands(row)], "y": [rounded([row["test_accuracy"]])]}, {"annotations[0].text": words(row, format)}, [trace]],
        }
        for row in rows
    ]
    return {
        "active": start,
        "steps": steps,
        "x": 0,
        "len": 1,
        "y": 0,
        "yanchor": "top",
        "pad": {"t": 46, "b": 0},
        "ticklen": 0,
        "minorticklen": 0,
        "font": {"size": 11},
        "currentvalue": {"prefix": "thousand FLOPs: ", "font": {"size": 12}},
    }


def description(row: Row, format: str) -> dict:
    return said_above(words(row, format))


def words(row: Row, format: str) -> str:
    """The chosen thresholds in two short lines; above 1 no image leaves."""
    limits = ", ".join("never" if t > 1 else f"above {t:.2f}" for t in row["thresholds"])
    return (
        f"<b>{short_number(row['test_accuracy'], format)}</b> for {row['test_flops'] / 1e3:,.0f} thousand FLOPs<br>"
        f"leave when sure: {limits}"
    )


def described(found: Sequence[Row], alike: Sequence[Row], points: Mapping[str, tuple[float, float]], format: str) -> str:
    """The figure in words: the ends of each line, the points, and what the slider is for."""

    def end(accuracy: float, flops: float) -> str:
        return f"{short_number(accuracy, format)} at {flops / 1e3:,.0f}"

    def ends(line: Sequence[Row]) -> str:
        return " to ".join(end(row["test_accuracy"], row["test_flops"]) for row in (line[0], line[-1]))

    whole = listed([f"{name} {end(accuracy, flops)}" for name, (flops, accuracy) in points.items()]) if points else "none"
    return (
        f"Test accuracy against thousand FLOPs for an image. Thresholds found by the search go from {ends(found)}; one "
        f"threshold for all from {ends(alike)}. Points: {whole}. A slider moves along the first line."
    )


def thousands(*rows: Row) -> list[float]:
    return rounded(row["test_flops"] / 1e3 for row in rows)
