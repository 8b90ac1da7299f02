"""A figure to choose a sub-network with: move a slider to a budget, see the best that fits into it."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping

import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import frontier
from lib.figures.theme import CLEAR, COLOURS, INK, canvas, listed, rounded, said_above, short_number, tick
from lib.system.checks import require

#: How the costs are written, and the unit of those that are not plain numbers.
COSTS = {"parameters": ("parameters", ""), "flops": ("FLOPs", ""), "latency_ms": ("latency", " ms")}

#: Units of plain numbers.
LARGE = ((1e9, "G", "billion"), (1e6, "M", "million"), (1e3, "k", "thousand"), (1.0, "", ""))

#: Characters of a line of the description: what fits across a telephone.
LINE = 44

#: Pixels above the plot: one line of the description, the mode bar of a telephone and the buttons under it.
LINE_HEIGHT, BUTTONS_HEIGHT = 17, 74

#: Pixels below the plot: its axis, the slider, the legend.
AXIS_HEIGHT, SLIDER_HEIGHT, LEGEND_HEIGHT = 46, 84, 34

#: Traces of one cost: all samples, the front, the budget, the chosen one.
TRACES = 4


def budget_explorer(
    samples: pd.DataFrame,
    fronts: Mapping[str, pd.DataFrame],
    *,
    accuracy: str = "val_accuracy",
    accuracy_title: str = "validation accuracy",
    format: str = ".1%",
    step: float = 0.05,
) -> go.Figure:
    """Accuracy against cost with a slider over budgets; a menu chooses what the budget is of.

    ``samples``  measured sub-networks: the columns that ``fronts`` is keyed by, and ``accuracy``; faint dots
    ``fronts``   for "parameters", "flops" and "latency_ms", or some of them, the found sub-networks: the same
                 columns, ``depth``, and ``heads``, ``hidden``, ``experts``, ``k`` as lists over layers
    ``step``     between two budgets, as a fraction of the largest cost

    Within a budget the one with the highest measured ``accuracy`` is shown, with its size and costs in words.
    Everything is in the figure: it needs no Python and no server.
    Raises ValueError for empty fronts, and for steps that do not end at the whole.
    """
    require(
        step > 0 and abs(1 / step - round(1 / step)) < 1e-6,
        f"step is {step}: choose a whole number's reciprocal, such as 0.05, so that the last budget is all",
    )
    if not fronts or any(front.empty for front in fronts.values()):
        raise ValueError("no sub-networks to choose from; say what is missing with lib.book.page.missing(results)")
    parts = [
        Part(name, samples, front.reset_index(drop=True), accuracy, format, step, place)
        for place, (name, front) in enumerate(fronts.items())
    ]
    lines = max(part.lines for part in parts)
    first = parts[0]
    top, bottom = BUTTONS_HEIGHT + LINE_HEIGHT * lines + 10, AXIS_HEIGHT + SLIDER_HEIGHT + LEGEND_HEIGHT
    figure = canvas(first.title, accuracy_title, 300 + top + bottom, told(parts, accuracy, format))
    for part in parts:
        figure.add_traces(part.traces(visible=part is first))
    height = figure.layout.height
    figure.update_layout(
        margin={"t": top, "b": bottom},
        showlegend=True,
        legend={"itemclick": False, "itemdoubleclick": False},
        sliders=[part.slider(visible=part is first) for part in parts],
        annotations=[part.description(visible=part is first) for part in parts],
    )
    if len(parts) > 1:
        # Buttons, not a menu that unfolds: it would be clear, and lie on the description.
        figure.update_layout(
            updatemenus=[
                {
                    "type": "buttons",
                    "direction": "right",
                    "showactive": True,
                    "x": 0,
                    "xanchor": "left",
                    "yanchor": "top",
                    "y": 1 + (top - 34) / (height - top - bottom),
                    "bgcolor": CLEAR,
                    "bordercolor": INK,
                    "pad": {"t": 0, "l": 0},
                    "font": {"color": INK, "size": 12},
                    "buttons": [part.button(parts) for part in parts],
                }
            ]
        )
    figure.update_yaxes(tickformat=tick(format))
    return figure


class Part:
    """What belongs to one cost: its traces, its slider, and the state that the figure has when it is chosen."""

    def __init__(self, name: str, samples: pd.DataFrame, front: pd.DataFrame, accuracy: str, format: str, step: float, place: int):
        self.word, self.unit = COSTS.get(name, (name, ""))
        self.name, self.accuracy, self.format, self.place = name, accuracy, format, place
        self.samples, self.front = samples, frontier(front, name, accuracy)
        self.whole = max(front[name].max(), samples[name].max())
        self.scale, _, unit = (1.0, "", self.unit.strip()) if self.unit else scale(self.whole)
        self.title = f"{self.word} ({unit})" if unit else self.word
        lowest = self.front[name].min() / self.whole
        self.budgets = [budget for budget in (round(step * i, 6) for i in range(1, round(1 / step) + 1)) if budget >= lowest]
        self.chosen = [self.front[self.front[name] <= budget * self.whole * (1 + 1e-9)].iloc[-1] for budget in self.budgets]
        self.texts = [self.text(budget, row) for budget, row in zip(self.budgets, self.chosen)]
        self.lines = max(text.count("<br>") + 1 for text in self.texts)
        self.start = min(range(len(self.budgets)), key=lambda place: abs(self.budgets[place] - 0.5))

    def text(self, budget: float, row: pd.Series) -> str:
        """The chosen sub-network in a few short lines."""
        tested = f", test {short_number(row['test_accuracy'], self.format)}" if pd.notna(row.get("test_accuracy")) else ""
        facts = [
            f"<b>{short_number(row[self.accuracy], self.format)}</b>{tested} with ≤ {budget:.0%} of {self.word}",
            f"{amount(row['parameters'])} parameters, {amount(row['flops'])} FLOPs, {row['latency_ms']:.3g} ms",
        ]
        layers = [
            f"{axis}\N{NO-BREAK SPACE}{runs(row[axis])}"
            for axis in ("heads", "hidden", "experts", "k")
            if isinstance(row[axis], (list, tuple))
        ]
        count = f"{row['depth']}\N{NO-BREAK SPACE}layer{'s' if row['depth'] > 1 else ''}"
        return "<br>".join([*facts, *textwrap.wrap("; ".join([count, *layers]), LINE)])

    def traces(self, visible: bool) -> list[go.Scatter]:
        name, accuracy = self.name, self.accuracy
        hover = f"{self.word} %{{x:.4~g}}: %{{y:{self.format}}}<extra></extra>"
        colour, chosen = COLOURS["elastic"], self.chosen[self.start]
        common = {"visible": visible}
        return [
            go.Scatter(
                x=self.scaled(self.samples[name]),
                y=rounded(self.samples[accuracy]),
                mode="markers",
                name="random samples",
                marker={"color": INK, "size": 5, "opacity": 0.3},
                hovertemplate=f"a random sample<br>{hover}",
                **common,
            ),
            go.Scatter(
                x=self.scaled(self.front[name]),
                y=rounded(self.front[accuracy]),
                mode="lines+markers",
                name="found",
                line={"color": colour, "width": 1.5, "shape": "hv"},
                marker={"color": colour, "size": 7},
                hovertemplate=f"found by the search<br>{hover}",
                **common,
            ),
            go.Scatter(
                x=self.line(self.start),
                y=self.range(),
                mode="lines",
                name="budget",
                hoverinfo="skip",
                line={"color": INK, "width": 1, "dash": "dash"},
                **common,
            ),
            go.Scatter(
                x=self.scaled([chosen[name]]),
                y=rounded([chosen[accuracy]]),
                mode="markers",
                name="best within it",
                marker={"color": COLOURS["whole_network"], "size": 14, "symbol": "circle-open", "line": {"width": 3}},
                hovertemplate=f"best within the budget<br>{hover}",
                **common,
            ),
        ]

    def slider(self, visible: bool) -> dict:
        where = [TRACES * self.place + 2, TRACES * self.place + 3]  # the budget, and the chosen one
        steps = [
            {"method": "update", "label": f"{budget:.0%}", "args": [self.moved(place), self.worded(place), where]}
            for place, budget in enumerate(self.budgets)
        ]
        return {
            "active": self.start,
            "steps": steps,
            "visible": visible,
            "x": 0,
            "len": 1,
            "y": 0,
            "yanchor": "top",
            "pad": {"t": AXIS_HEIGHT, "b": 0},
            "ticklen": 0,
            "minorticklen": 0,
            "font": {"size": 11},
            "currentvalue": {"prefix": f"budget, of the whole's {self.word}: ", "font": {"size": 12}},
        }

    def button(self, parts: list[Part]) -> dict:
        """Show this cost's traces, slider and description, as they were left."""
        shown = [part is self for part in parts]
        layout = {"xaxis.title.text": self.title}
        for place, visible in enumerate(shown):
            layout |= {f"sliders[{place}].visible": visible, f"annotations[{place}].visible": visible}
        return {
            "method": "update",
            "label": self.word,
            "args": [{"visible": [visible for visible in shown for _ in range(TRACES)]}, layout],
        }

    def moved(self, place: int) -> dict:
        row = self.chosen[place]
        return {"x": [self.line(place), self.scaled([row[self.name]])], "y": [self.range(), rounded([row[self.accuracy]])]}

    def worded(self, place: int) -> dict:
        return {f"annotations[{self.place}].text": self.texts[place]}

    def description(self, visible: bool) -> dict:
        return said_above(self.texts[self.start]) | {"visible": visible}

    def line(self, place: int) -> list[float]:
        return self.scaled([self.budgets[place] * self.whole] * 2)

    def range(self) -> list[float]:
        values = pd.concat([self.samples[self.accuracy], self.front[self.accuracy]])
        return rounded([values.min(), values.max()])

    def scaled(self, values: Iterable[float]) -> list[float]:
        return rounded(value / self.scale for value in values)


def told(parts: list[Part], accuracy: str, format: str) -> str:
    """The figure in words: each front's ends, and what a slider is for."""

    def end(part: Part, place: int) -> str:
        row = part.front.iloc[place]
        return f"{short_number(row[accuracy], format)} at {amount(row[part.name])}{part.unit}"

    ends = [f"{part.word} from {end(part, 0)} to {end(part, -1)}" for part in parts]
    return (
        f"Sub-networks found by the search, their accuracy against {listed(ends)}; {len(parts[0].samples)} random ones "
        "as faint dots. A slider sets a budget and marks the best sub-network within it, with its layers in words."
    )


def scale(value: float) -> tuple[float, str, str]:
    """What to divide a number of this size by, with the letter and the word for it."""
    return next((large for large in LARGE if value >= large[0]), LARGE[-1])


def amount(value: float) -> str:
    """Three significant digits with a letter for the unit: ``1.23M``."""
    divisor, letter, _ = scale(value)
    return f"{value / divisor:.3g}{letter}"


def runs(values: Iterable[int]) -> str:
    """One number per layer, equal neighbours once: ``8×3 4``; a single number where all are alike."""
    found = [(value, len(list(group))) for value, group in itertools.groupby(values)]
    if len(found) == 1:
        return str(found[0][0])
    return " ".join(f"{value}×{count}" if count > 1 else str(value) for value, count in found)
