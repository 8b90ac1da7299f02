"""Figures: small, described, drawn in each method's own colour, and built from plain JSON."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from lib import figures
from lib.claims.verdict import MARKS
from lib.figures.compare import frontier
from lib.figures.theme import METHODS, rounded, styles
from lib.figures.verdict_logic import CASES, verdict_logic, verdict_of
from lib.figures.verdicts import verdict_bars

METHOD_NAMES = ["dense", "switch", "vmoe", "bias", "expert_choice", "soft", "hash", "thor", "adamix", "ewa", "whole_network"]


@pytest.fixture
def curves() -> pd.DataFrame:
    """Eleven methods, three seeds, 600 epochs: more than any chapter draws at once."""
    rng = np.random.default_rng(0)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "method": method,
                    "seed": seed,
                    "step": np.arange(1, 601),
                    "accuracy": 0.9 - 0.5 * np.exp(-np.arange(600) / 60) + rng.normal(0, 0.01, 600),
                }
            )
            for method in METHOD_NAMES
            for seed in range(3)
        ],
        ignore_index=True,
    )


@pytest.fixture
def ends(curves: pd.DataFrame) -> pd.DataFrame:
    last = curves[curves.step == 600]
    return last.assign(seconds=np.linspace(10, 40, len(last)), experts=np.tile([4, 16, 64], len(METHOD_NAMES)), key="ab12")


def all_figures(curves: pd.DataFrame, ends: pd.DataFrame) -> dict:
    wide = np.random.default_rng(1).random((16, 64))
    return {
        "curves": figures.learning_curves(curves, "accuracy", "method", y_title="validation accuracy", format=".1%"),
        "dots": figures.dots(ends, "accuracy", "method", title="test accuracy", format=".1%"),
        "scaling": figures.scaling(ends, "experts", "seconds", "method", y_title="ratio to dense", baseline=1.0),
        "pareto": figures.pareto(ends, "seconds", "accuracy", "method", x_title="time (s)", y_title="accuracy"),
        "bars": figures.bars(ends, "experts", "accuracy", "method"),
        "map": figures.heat_map(wide, x_title="position", y_title="expert", value_title="share"),
        "slider": figures.heat_map_over_time([wide] * 30, range(30), x_title="position", y_title="expert", value_title="share"),
    }


def test_every_figure_is_small_plain_described_and_labelled(curves, ends):
    for name, figure in all_figures(curves, ends).items():
        text = json.dumps(figure.to_plotly_json(), allow_nan=False)
        assert len(text) < 50_000, f"{name} takes {len(text)} bytes"
        assert not re.search("bdata|http", text), name
        assert len(figure.layout.meta["alt"]) > 40, name
        assert figure.layout.xaxis.title.text, name
        assert figure.layout.height >= 150, name
        assert figure.layout.template.layout.plot_bgcolor == "rgba(0,0,0,0)", name
        if figure.layout.showlegend:
            assert figure.layout.template.layout.legend.orientation == "h", name


def test_hover_names_the_series_its_value_and_the_number_of_runs(curves, ends):
    drawn = all_figures(curves, ends)
    line = next(trace for trace in drawn["curves"].data if trace.name == "Soft MoE")
    assert "Soft MoE" in line.hovertemplate and "n=3" in line.hovertemplate and "%{y:.1%}" in line.hovertemplate
    mean = next(trace for trace in drawn["dots"].data if trace.name == "Soft MoE")
    assert "95 % interval" in mean.hovertemplate and "n=3" in mean.hovertemplate
    point = next(trace for trace in drawn["pareto"].data if trace.name == "Soft MoE")
    assert list(point.customdata) == ["ab12"] * 3


def test_methods_have_their_own_colours_marks_and_labels():
    for part in ("colour", "symbol", "label"):
        values = [getattr(method, part) for method in METHODS.values()]
        assert len(set(values)) == len(values), part
    assert figures.COLOURS["switch"] == METHODS["switch"].colour


def test_colours_stand_out_on_white_and_on_black():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    for name, colour in figures.COLOURS.items():
        white = 1.05 / (luminance(colour) + 0.05)
        black = (luminance(colour) + 0.05) / (luminance("#222222") + 0.05)
        assert min(white, black) > 2.3, (name, white, black)


def test_variants_share_a_methods_colour_and_differ_in_dash():
    looks = styles(["switch", "switch, capacity 2.0", "switching", "expert_choice"])
    assert looks["switch"].colour == looks["switch, capacity 2.0"].colour == figures.COLOURS["switch"]
    assert looks["switch"].dash != looks["switch, capacity 2.0"].dash
    assert looks["switch, capacity 2.0"].label == "Switch, capacity 2.0"
    assert looks["switching"].colour not in figures.COLOURS.values()
    assert looks["expert_choice"].label == "Expert choice"
    assert figures.label("expert-choice, 16 experts") == "Expert choice, 16 experts"


def test_thinning_keeps_ends_extremes_and_order():
    rng = np.random.default_rng(2)
    line, low, high = rng.normal(size=5000), rng.normal(size=5000) - 3, rng.normal(size=5000) + 3
    kept = figures.thin([line, low, high], 200)
    assert kept == sorted(set(kept)) and len(kept) <= 200
    assert {0, 4999} <= set(kept)
    for column in (line, low, high):
        assert column[kept].min() == column.min() and column[kept].max() == column.max()
    assert figures.thin([line[:50]], 200) == list(range(50))


def test_curves_draw_the_mean_and_the_range_of_the_seeds():
    frame = pd.DataFrame({"method": ["switch"] * 4, "seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "accuracy": [0.2, 0.4, 0.4, np.nan]})
    band, line = figures.learning_curves(frame, "accuracy", "method").data
    assert list(line.y) == [0.3, 0.4]
    assert list(band.y) == [0.4, 0.4, 0.4, 0.2] and list(band.x) == [1, 2, 2, 1]


def test_one_seed_has_no_band_and_no_interval():
    frame = pd.DataFrame({"method": ["switch"] * 2, "seed": 0, "step": [1, 2], "accuracy": [0.2, 0.4]})
    assert len(figures.learning_curves(frame, "accuracy", "method").data) == 1
    mean = figures.dots(frame[frame.step == 2], "accuracy", "method").data[1]
    assert list(mean.error_x.array) == [None] and mean.error_x.visible is False
    two = frame[frame.step == 2].assign(seed=1, accuracy=0.3)
    assert figures.dots(pd.concat([frame[frame.step == 2], two]), "accuracy", "method").data[1].error_x.visible


def test_dots_put_the_best_on_top(ends):
    best = ends.groupby("method").accuracy.mean().idxmax()
    axis = figures.dots(ends, "accuracy", "method").layout.yaxis
    assert axis.ticktext[-1].replace("<br>", " ") == METHODS[best].label


def test_frontier_is_what_nothing_beats():
    frame = pd.DataFrame({"x": [1, 2, 3, 3, 4], "y": [0.5, 0.4, 0.7, 0.6, 0.7]})
    assert frontier(frame, "x", "y")[["x", "y"]].values.tolist() == [[1, 0.5], [3, 0.7]]


def test_slider_carries_its_matrices_and_keeps_first_and_last():
    matrices = [np.full((16, 64), step / 40) for step in range(40)]
    figure = figures.heat_map_over_time(matrices, range(40), x_title="position", y_title="expert", value_title="share")
    stops = figure.layout.sliders[0].steps
    assert (stops[0].label, stops[-1].label) == ("0", "39")
    assert stops[0].method == "restyle" and stops[0].args[0]["z"][0][0][0] == 0
    assert figure.data[0].z[0][0] == rounded([39 / 40], 3)[0]
    assert not figure.frames


@pytest.mark.parametrize(
    "build",
    [
        lambda frame: figures.learning_curves(frame, "accuracy", "method"),
        lambda frame: figures.dots(frame, "accuracy", "method"),
        lambda frame: figures.pareto(frame, "step", "accuracy", "method"),
    ],
)
def test_nothing_to_draw_says_what_to_do(build):
    with pytest.raises(ValueError, match="missing"):
        build(pd.DataFrame({"method": [], "seed": [], "step": [], "accuracy": []}))


def test_a_reference_line_is_described():
    frame = pd.DataFrame({"method": ["switch"], "seed": 0, "step": [1], "accuracy": [0.2]})
    figure = figures.reference_line(figures.learning_curves(frame, "accuracy", "method"), 0.85, "the paper")
    assert "the paper: 0.85" in figure.layout.meta["alt"] and len(figure.layout.shapes) == 1


def test_a_frontier_knows_which_way_is_better():
    frame = pd.DataFrame({"method": list("abcd"), "key": list("abcd"), "cost": [1.0, 2.0, 3.0, 4.0], "value": [0.5, 0.7, 0.6, 0.9]})

    def front(**better):
        drawn = [trace for trace in figures.pareto(frame, "cost", "value", "method", **better).data if trace.name == "frontier"]
        return list(drawn[0].x) if drawn else None

    assert front() == [1, 2, 4]  # less cost, more value
    assert front(x_better="more") == [4]
    assert front(y_better="less") == [1]
    assert front(x_better="more", y_better="less") == [4, 3, 1]
    assert front(x_better=None) is front(y_better=None) is None  # a prediction is no cost
    with pytest.raises(ValueError, match="x_better is 'lower'"):
        front(x_better="lower")


def test_the_logic_of_verdicts_is_the_judges_own():
    figure = verdict_logic()
    assert [verdict_of(case) for case in CASES] == ["reproduced", "weaker", "not seen", "undecided", "not testable"] == list(MARKS)
    assert list(figure.layout.yaxis.ticktext) == list(reversed(MARKS)) and len(figure.data) == 4
    assert all(verdict in figure.layout.meta["alt"] for verdict in MARKS)


def test_shares_of_verdicts_are_drawn_as_shares():
    figure = verdict_bars(
        {"no effect, 3 seeds": {"reproduced": 0.025, "undecided": 0.95, "not seen": 0.025}}, title="experiments", format=".0%"
    )
    assert [trace.name for trace in figure.data] == ["reproduced", "not seen", "undecided"]
    assert "2% reproduced" in figure.layout.meta["alt"] and figure.data[2].text == ("95%",)
