"""Accuracy against the time two parties spend on ReLUs, with a slider for the time there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from lib.figures.compare import frontier
from lib.figures.theme import CLEAR, COLOURS, INK, Style, canvas, listed, rounded, said_above, short_number, styles, tick
from lib.privacy.cost import Protocol
from lib.system.checks import require

#: Pixels above the plot: the description and the buttons; below it: its axis and the slider.
TOP, BOTTOM = 124, 140


def cost_explorer(
    networks: pd.DataFrame, protocols: Sequence[Protocol], *, accuracy_title: str = "test accuracy", format: str = ".1%", steps: int = 16
) -> go.Figure:
    """One line per method, over the milliseconds that its ReLUs cost online; a button chooses the protocol.

    ``networks``  one row each: ``method``, ``relus`` (for one image, at least 1), ``accuracy``
    ``steps``     positions of the slider, from the cheapest network's time to the dearest one's, in equal ratios

    Within a time the most accurate network is marked, and described in words.  Everything is in the figure: it needs no Python
    and no server.  Raises ValueError when there is nothing to choose from.
    """
    require(len(networks) and len(protocols), "no networks to choose from; say what is missing with lib.book.page.missing(results)")
    require(steps >= 2 and networks["relus"].min() >= 1, "give the slider two steps or more, and networks with a ReLU at least")
    looks = styles(dict.fromkeys(networks["method"]))
    parts = [Part(protocol, networks, looks, format, steps, place) for place, protocol in enumerate(protocols)]
    first = parts[0]
    figure = canvas(first.title, accuracy_title, 300 + TOP + BOTTOM, told(parts, format), len(looks) + 1)
    for part in parts:
        figure.add_traces(part.traces(visible=part is first))
    height = figure.layout.height
    figure.update_layout(
        margin={"t": TOP, "b": BOTTOM + 20 * ((len(looks) + 2) // 2)},
        sliders=[part.slider(visible=part is first) for part in parts],
        annotations=[part.description(visible=part is first) for part in parts],
    )
    if len(parts) > 1:
        plot = height - TOP - BOTTOM - 20 * ((len(looks) + 2) // 2)
        figure.update_layout(
            updatemenus=[
                {
                    "type": "buttons",
                    "direction": "right",
                    "showactive": True,
                    "x": 0,
                    "xanchor": "left",
                    "yanchor": "top",
                    "y": 1 + (TOP - 34) / plot,
                    "bgcolor": CLEAR,
                    "bordercolor": INK,
                    "pad": {"t": 0, "l": 0},
                    "font": {"color": INK, "size": 12},
                    "buttons": [part.button(parts) for part in parts],
                }
            ]
        )
    figure.update_xaxes(type="log")
    figure.update_yaxes(tickformat=tick(format))
    return figure


class Part:
    """What belongs to one protocol: its traces, its slider, and the state that the figure has when it is chosen."""

    def __init__(self, protocol: Protocol, networks: pd.DataFrame, looks: dict[str, Style], format: str, steps: int, place: int):
        self.protocol, self.looks, self.format, self.place = protocol, looks, format, place
        self.networks = networks.assign(milliseconds=[protocol.milliseconds(relus) for relus in networks["relus"]])
        self.front = frontier(self.networks, "milliseconds", "accuracy").reset_index(drop=True)
        least, most = self.front["milliseconds"].min(), self.networks["milliseconds"].max()
        ratio = (most / least) ** (1 / (steps - 1))
        self.budgets = [least * ratio**step for step in range(steps)] if most > least else [least, least]
        self.chosen = [self.front[self.front["milliseconds"] <= budget * (1 + 1e-9)].iloc[-1] for budget in self.budgets]
        self.start = len(self.budgets) // 2
        self.size = len(looks) + 2
        self.title = f"milliseconds online for the ReLUs of one image, {protocol.name}"

    def text(self, place: int) -> str:
        row, relus = self.chosen[place], int(self.chosen[place]["relus"])
        low, high = (number * relus / 1e3 for number in (self.protocol.low, self.protocol.high))
        return (
            f"<b>{short_number(row['accuracy'], self.format)}</b> within {short_number(self.budgets[place])} ms: "
            f"{self.looks[row['method']].label}<br>{relus:,} ReLUs, {short_number(low)} to {short_number(high)} ms"
        )

    def traces(self, visible: bool) -> list[go.Scatter]:
        found = []
        for name, look in self.looks.items():
            mine = self.networks[self.networks["method"] == name].sort_values("relus")
            found.append(
                go.Scatter(
                    x=rounded(mine["milliseconds"]),
                    y=rounded(mine["accuracy"]),
                    customdata=mine["relus"].tolist(),
                    name=look.label,
                    mode="lines+markers",
                    visible=visible,
                    line={"color": look.colour, "dash": look.dash, "width": 2},
                    marker={"color": look.colour, "symbol": look.symbol, "size": 9},
                    hovertemplate=f"{look.label}<br>%{{customdata:,}} ReLUs, %{{x:.3~g}} ms: %{{y:{self.format}}}<extra></extra>",
                )
            )
        chosen = self.chosen[self.start]
        found.append(
            go.Scatter(
                x=self.line(self.start),
                y=self.range(),
                mode="lines",
                name="time",
                hoverinfo="skip",
                visible=visible,
                showlegend=False,
                line={"color": INK, "width": 1, "dash": "dash"},
            )
        )
        found.append(
            go.Scatter(
                x=rounded([chosen["milliseconds"]]),
                y=rounded([chosen["accuracy"]]),
                mode="markers",
                visible=visible,
                name="best within the time",
                hoverinfo="skip",
                marker={"color": COLOURS["privacy"], "size": 15, "symbol": "circle-open", "line": {"width": 3}},
            )
        )
        return found

    def slider(self, visible: bool) -> dict:
        where = [self.size * self.place + len(self.looks), self.size * self.place + len(self.looks) + 1]
        steps = [
            {
                "method": "update",
                "label": f"{short_number(budget)} ms",
                "args": [self.moved(place), {f"annotations[{self.place}].text": self.text(place)}, where],
            }
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
            "pad": {"t": 46, "b": 0},
            "ticklen": 0,
            "minorticklen": 0,
            "font": {"size": 11},
            "currentvalue": {"prefix": "time for ReLUs: ", "font": {"size": 12}},
        }

    def moved(self, place: int) -> dict:
        row = self.chosen[place]
        return {"x": [self.line(place), rounded([row["milliseconds"]])], "y": [self.range(), rounded([row["accuracy"]])]}

    def button(self, parts: list[Part]) -> dict:
        """Show this protocol's traces, slider and description, as they were left."""
        shown = [part is self for part in parts]
        layout = {"xaxis.title.text": self.title}
        for place, visible in enumerate(shown):
            layout |= {f"sliders[{place}].visible": visible, f"annotations[{place}].visible": visible}
        return {
            "method": "update",
            "label": self.protocol.name,
            "args": [{"visible": [visible for visible in shown for _ in range(self.size)]}, layout],
        }

    def description(self, visible: bool) -> dict:
        return said_above(self.text(self.start)) | {"visible": visible}

    def line(self, place: int) -> list[float]:
        return rounded([self.budgets[place]] * 2)

    def range(self) -> list[float]:
        low, high = self.networks["accuracy"].min(), self.networks["accuracy"].max()
        margin = 0.05 * (high - low) if math.isfinite(high - low) else 0.0
        return rounded([low - margin, high + margin])


def told(parts: list[Part], format: str) -> str:
    """The figure in words: each protocol's ends of the front, and what the slider is for."""

    def end(part: Part, place: int) -> str:
        row = part.front.iloc[place]
        return f"{short_number(row['accuracy'], format)} for {short_number(row['milliseconds'])} ms"

    ends = [f"{part.protocol.name} from {end(part, 0)} to {end(part, -1)}" for part in parts]
    return f"Accuracy against the online time of the ReLUs: {listed(ends)}. A slider sets the time and marks the best network within it."
