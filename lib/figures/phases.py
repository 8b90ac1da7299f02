"""A run that goes through phases: loss against compute, with what was grown marked where it was."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib.figures.curves import learning_curves, over_seeds, thin
from lib.figures.theme import INK, Style, listed, reference_line, rounded, short_number, styles
from lib.system.checks import require

#: Pixels of the plot on a telephone.  Flags that are clear of each other there are so on every wider page.
NARROW = 262

#: Pixels that a flag may reach beyond the plot: over the numbers of the y axis, over the right margin.
LEFT, RIGHT = 36, 8

#: Pixels of a character of a label, rather too many; of the space around a label; of a row of flags.
CHARACTER, GAP, ROW = 6.3, 8, 17

#: Evaluations of all series together: FLOPs are long numbers, of which a figure under 50 KB holds fewer than of epochs.
POINTS = 450

#: Of the largest compute, what sets the moments before and after a transition apart.
APART = 1e-9

#: Share of the plot below the floor, where its name is.
STRIP = 0.09


@dataclass(frozen=True)
class Transition:
    """What changes, and where on the compute axis: ``Transition(3e15, "experts ×8", of="growth")``.

    of: the series that it belongs to, which is marked at this place; None for all of them.
    """

    at: float
    label: str
    of: str | None = None


def phases(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    transitions: Sequence[Transition],
    by: str = "method",
    floor: float | None = None,
    floor_name: str = "entropy of the corpus",
    x_title: str | None = None,
    y_title: str | None = None,
    format: str = "",
    log: bool = True,
) -> go.Figure:
    """Mean of ``y`` over seeds against compute ``x``, a flag at each transition, a line at the ``floor``.

    frame: long form with a row per seed and evaluation, and columns ``by`` and "seed".  Two rows of one series
    and seed with the same ``x`` are the moments before and after a transition, in this order: the line jumps.
    log: a logarithmic compute axis, which leaves out rows with an ``x`` of 0.  Flags are laid out for a plot of
    :data:`NARROW` pixels, in rows, see :func:`flags`; on wider pages they are only further apart.
    Raises ValueError when there is nothing to draw, and for a transition of a series that is not there.
    """
    frame = thinned(in_order(frame[frame[x] > 0] if log else frame, x, by), x, y, by)
    looks: dict[str | None, Style] = styles(dict.fromkeys(frame[by]))
    transitions = sorted(transitions, key=lambda transition: transition.at)
    for transition in transitions:
        require(
            transition.of is None or transition.of in looks,
            f"{transition.label!r} is of {transition.of!r}, which is not drawn: use {listed(list(map(repr, looks)))}, or None",
        )
    x_title, y_title = x_title or x, y_title or y
    figure = learning_curves(frame, y, by, x=x, x_title=x_title, y_title=y_title, format=format)
    foot = 0.0 if floor is None else lay_floor(figure, floor, floor_name, frame[y])

    def position(at: float) -> float:
        return math.log10(at) if log else at

    ats = [*frame[x], *(transition.at for transition in transitions)]
    low, high = position(min(ats)), position(max(ats))
    margin = 0.02 * (high - low or 1)
    low, high = low - margin, high + margin
    figure.update_xaxes(
        type="log" if log else "linear",
        range=rounded([low, high], 6),
        hoverformat=".4~g",
        exponentformat="power",
        tickformat="" if log else "~s",
        dtick="D2" if log and high - low < 3 else None,
    )

    places = [NARROW * (position(transition.at) - low) / (high - low) for transition in transitions]
    to_left, rows = flags(places, [len(transition.label) * CHARACTER + GAP for transition in transitions])
    for transition, left, row in zip(transitions, to_left, rows):
        look = looks.get(transition.of)
        raise_flag(figure, transition, position(transition.at), foot, left, row, look)
        curve = over_seeds(frame[frame[by] == transition.of], x, y)
        if look and curve[x].min() <= transition.at <= curve[x].max():
            height = float(np.interp(transition.at, curve[x], curve["mean"]))
            figure.add_scatter(
                x=rounded([transition.at], 6),
                y=rounded([height]),
                mode="markers",
                showlegend=False,
                name=f"{look.label}, {transition.label}",
                legendgroup=str(transition.of),
                marker={"color": look.colour, "symbol": look.symbol, "size": 9},
                hovertemplate=f"{look.label}: {transition.label}<br>{x_title} %{{x}}: %{{y:{format or '.4~g'}}}<extra></extra>",
            )
    if transitions:
        room = ROW * (max(rows) + 1)
        marked = [f"{looks[t.of].label + ' ' if t.of else ''}{t.label} at {short_number(t.at)}" for t in transitions]
        figure.update_layout(
            height=figure.layout.height + room,
            margin={"t": 34 + room},
            meta={"alt": f"{figure.layout.meta['alt']} Marked on the {x_title} axis: {listed(marked)}."},
        )
    return figure


def in_order(frame: pd.DataFrame, x: str, by: str) -> pd.DataFrame:
    """The frame with rows of the same run and ``x`` set apart by less than a plot can show, as they follow each other."""
    turn = frame.groupby([by, "seed", x]).cumcount()
    return frame.assign(**{x: frame[x] + turn * APART * frame[x].abs().max()})


def thinned(frame: pd.DataFrame, x: str, y: str, by: str) -> pd.DataFrame:
    """The rows of about :data:`POINTS` evaluations of all series together, those around a jump among them."""
    jump, kept = 2 * APART * frame[x].abs().max(), []
    for _, part in frame.groupby(by, sort=False):
        mean = over_seeds(part, x, y)
        before = np.flatnonzero(np.diff(mean[x]) < jump)
        rows = {*thin([mean["mean"]], POINTS // frame[by].nunique()), *before, *(before + 1)}
        kept.append(part[part[x].isin(mean[x].iloc[sorted(rows)])])
    return pd.concat(kept) if kept else frame


def lay_floor(figure: go.Figure, floor: float, name: str, values: pd.Series) -> float:
    """A line at ``floor``, its name below it; the height of the line in the plot, of 1."""
    top = max(values.max(), floor) + 0.04 * abs(values.max() - floor)
    low = min(floor - STRIP * (top - floor) / (1 - STRIP), values.min() - 0.04 * (top - values.min()))
    figure.update_yaxes(range=rounded([low, top], 6))
    reference_line(figure, floor, name)
    figure.update_annotations(yanchor="top")
    return (floor - low) / (top - low)


def raise_flag(figure: go.Figure, transition: Transition, position: float, foot: float, left: bool, row: int, look: Style | None) -> None:
    """A pole from ``foot`` through the plot, and above it up to ``row``, with the label at its side."""
    line = {"color": look.colour if look else INK, "width": 1, "dash": look.dash if look else "dot"}
    pole = {"type": "line", "layer": "between", "line": line, "xref": "x", "x0": transition.at, "x1": transition.at, "yref": "paper"}
    figure.add_shape(**pole, y0=foot, y1=1)
    figure.add_shape(**pole, ysizemode="pixel", yanchor=1, y0=0, y1=ROW * row + ROW - 3)
    figure.add_annotation(
        x=position,
        xref="x",
        y=1,
        yref="paper",
        xshift=-3 if left else 3,
        yshift=ROW * row,
        borderpad=0,
        xanchor="right" if left else "left",
        yanchor="bottom",
        showarrow=False,
        text=transition.label,
        font={"size": 11},
    )


def flags(places: Sequence[float], widths: Sequence[float]) -> tuple[list[bool], list[int]]:
    """For poles at rising ``places`` (pixels): whether each flag of these ``widths`` hangs to the left, and its row.

    The first some hang to the right, the others to the left, within the figure; of all such choices the one with
    the fewest rows.  A flag that reaches over another pole is above that pole's flag.  Four labels of a dozen
    characters always have room for that.  Where there is none, each has a row of its own and hangs towards the
    middle: then no label is on another, but a pole may pass through one.
    """
    count = len(places)
    best: tuple[list[bool], list[int]] | None = None
    for first_left in range(count, -1, -1):
        to_left = [i >= first_left for i in range(count)]
        inside = all(
            place - width >= -LEFT if left else place + width <= NARROW + RIGHT for place, width, left in zip(places, widths, to_left)
        )
        rows = rows_of(places, widths, to_left) if inside else None
        if rows is not None and (best is None or max(rows, default=0) < max(best[1])):
            best = to_left, rows
    first_left = sum(place <= NARROW / 2 for place in places)
    return best or ([i >= first_left for i in range(count)], [*range(count - 1, count - 1 - first_left, -1), *range(count - first_left)])


def rows_of(places: Sequence[float], widths: Sequence[float], to_left: Sequence[bool]) -> list[int] | None:
    """The lowest row of each flag in which it lies on no other and on no pole; None where two cannot avoid that."""
    above: list[set[int]] = [set() for _ in places]  # those that a flag must be above
    for i, j in itertools.combinations(range(len(places)), 2):
        apart, facing = places[j] - places[i], to_left[j] and not to_left[i]
        i_covers = not to_left[i] and apart < widths[i]
        j_covers = to_left[j] and apart < widths[j] or facing and not i_covers and apart < widths[i] + widths[j]
        if i_covers:
            above[i].add(j)
        if j_covers:
            above[j].add(i)
    rows = [0] * len(places)
    for _ in range(len(places) + 1):
        raised = [1 + max((rows[j] for j in below), default=-1) for below in above]
        if raised == rows:
            return rows
        rows = raised
    return None
