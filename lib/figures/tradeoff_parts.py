"""The parts of the figure of costs: networks and lines that know where they are for each cost."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import estimates, frontier, told, whiskers
from lib.figures.theme import INK, Style, rounded, styles

#: Characters of a line of what is said of a point: what fits across a telephone.
LINE = 38

#: How a verdict against the dense network is written, see :func:`lib.measure.paired.marked`.
VERDICTS = {"above": "above dense", "below": "below dense", "like": "not told apart from dense"}

#: Columns that hold words about a network; there may be none.
WORDS = ("verdict", "command", "link")

#: Of what is said of a point, that which is its link: ``assets/book.js`` follows it.
LINK = 2

FRONTIER = {"name": "frontier", "legendgroup": "frontier", "line": {"color": INK, "width": 1, "dash": "dot", "shape": "hv"}}


def points(frame: pd.DataFrame, accuracy: str, costs: list[str]) -> pd.DataFrame:
    """One row per family and name: the mean accuracy as ``accuracy``, its ``estimate``, mean costs, what is said of it."""
    found = estimates(frame, accuracy, ["family", "name"])
    words = [column for column in WORDS if column in frame]
    frame, rows = frame.assign(**{column: frame[column].fillna("") for column in words}), []
    for (family, name), part in frame.dropna(subset=[accuracy]).groupby(["family", "name"], sort=False):
        first = part.iloc[0]
        rows.append(
            {
                "family": family,
                "name": name,
                "method": first["method"],
                accuracy: found[family, name].mean,
                "estimate": found[family, name],
                **{column: part[column].mean() for column in costs},
                **{column: first.get(column, "") for column in WORDS},
            }
        )
    return pd.DataFrame(rows)


def beyond_baseline(frame: pd.DataFrame, cost: str, accuracy: str, baseline: str = "dense") -> pd.Series:
    """How far each row's accuracy lies above the line through its family's ``baseline`` networks, at the row's own cost.

    ``frame``  columns ``family``, ``name``, ``method``, ``cost`` and ``accuracy``; the line goes through means over seeds

    The line is straight over the logarithm of the cost.  NaN where it has not been measured: beside its ends, and where
    the cost is missing.
    """
    margin = pd.Series(np.nan, index=frame.index, dtype=float)
    for _, part in frame.groupby("family", sort=False):
        line = baseline_line(part, cost, accuracy, baseline)
        if len(line):
            at = np.log(part[cost].astype(float))
            level = np.interp(at, np.log(line[cost]), line[accuracy], left=np.nan, right=np.nan)
            margin[part.index] = part[accuracy] - level
    return margin


def baseline_line(part: pd.DataFrame, cost: str, accuracy: str, baseline: str) -> pd.DataFrame:
    """The baseline networks of one family by rising cost, one row per name; of those with the same cost their mean."""
    mine = part[part["method"] == baseline].dropna(subset=[cost, accuracy])
    return mine.groupby("name", sort=False)[[cost, accuracy]].mean().groupby(cost, as_index=False).mean()


@dataclass(frozen=True)
class Board:
    """What all parts of the figure are drawn from."""

    points: pd.DataFrame
    accuracy: str
    baseline: str
    format: str


class Networks:
    """The networks of one method in one family: they stand still but for their cost, and what is said of it."""

    def __init__(self, board: Board, family: str, method: str, look: Style, fill: str):
        self.board, self.family, self.method, self.look = board, family, method, look
        self.mine = board.points[(board.points["method"] == method) & (board.points["family"] == family)]
        self.symbol = look.symbol.removesuffix("-open") + fill

    def x(self, cost: str) -> list:
        return rounded(self.mine[cost])

    def y(self, cost: str) -> list:
        return rounded(self.mine[self.board.accuracy])

    def text(self, cost: str) -> list[str]:
        """Points above or below the baseline's line at that cost; "none" beside its ends."""
        margin = beyond_baseline(self.board.points, cost, self.board.accuracy, self.board.baseline)[self.mine.index]
        return ["none" if pd.isna(value) else f"{100 * value:+z.1f} points" for value in margin]

    def trace(self, cost: str) -> go.Scatter:
        colour = self.look.colour
        beside = "" if self.method == self.board.baseline else "against the dense line here: %{text}<br>"
        return go.Scatter(
            x=self.x(cost),
            y=self.y(cost),
            text=self.text(cost),
            mode="markers",
            name=self.look.label,
            legendgroup=self.method,
            showlegend=False,
            customdata=[self.words(row) for _, row in self.mine.iterrows()],
            error_y=whiskers(self.mine["estimate"].tolist()) | {"color": colour, "width": 3},
            marker={"color": colour, "symbol": self.symbol, "size": 10, "line": {"width": 2 if self.symbol.endswith("-open") else 0}},
            hovertemplate=f"%{{customdata[0]}}<br>%{{xaxis.title.text}}: %{{x}}<br>{beside}%{{customdata[1]}}<extra></extra>",
        )

    def words(self, row: pd.Series) -> list[str]:
        """What is said of a point before its cost and after it, and its link (the place of which is :data:`LINK`)."""
        verdict = "" if self.method == self.board.baseline else VERDICTS.get(row["verdict"], row["verdict"])
        after = [verdict, f"<i>{broken(row['command'])}</i>" if row["command"] else ""]
        return [
            f"<b>{broken(row['name'])}</b><br>{broken(told(row['estimate'], self.board.format))}",
            "<br>".join(filter(None, after)),
            row["link"],
        ]


class Line:
    """A line through networks of a family, which depend on the cost; one for each way to choose them."""

    def __init__(self, board: Board, family: str):
        self.board, self.family = board, family
        self.mine = board.points[board.points["family"] == family]

    def x(self, cost: str) -> list:
        return rounded(self.along(cost)[cost])

    def y(self, cost: str) -> list:
        return rounded(self.along(cost)[self.board.accuracy])

    def text(self, cost: str) -> None:
        """Nothing is said of a line."""

    def trace(self, cost: str) -> go.Scatter:
        return go.Scatter(x=self.x(cost), y=self.y(cost), mode="lines", showlegend=False, hoverinfo="skip", **self.look())


class Baseline(Line):
    """Through the baseline's networks, by rising cost."""

    def along(self, cost: str) -> pd.DataFrame:
        return baseline_line(self.mine, cost, self.board.accuracy, self.board.baseline)

    def look(self) -> dict:
        look = styles([self.board.baseline])[self.board.baseline]
        return {"name": f"{look.label}, line", "legendgroup": self.board.baseline, "line": {"color": look.colour, "width": 2}}


class Frontier(Line):
    """Through the networks that none other of the family beats in both."""

    def along(self, cost: str) -> pd.DataFrame:
        return frontier(self.mine.dropna(subset=[cost]), cost, self.board.accuracy)

    def look(self) -> dict:
        return FRONTIER


def broken(text: str) -> str:
    """Into lines that fit across a telephone."""
    return "<br>".join(textwrap.wrap(text, LINE, break_on_hyphens=False))
