"""Curves with flags: what is drawn where, that flags are clear of each other on every page, that jumps stay jumps."""

import itertools
import json
import re

import numpy as np
import pandas as pd
import pytest

from lib.figures.phases import CHARACTER, GAP, LEFT, NARROW, RIGHT, ROW, Transition, flags, phases
from lib.figures.theme import COLOURS, INK


def trained(series: list[str], seeds: int = 3, evaluations: int = 50) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    compute = np.logspace(13, 16, evaluations)
    return pd.concat(
        [
            pd.DataFrame(
                {"method": name, "seed": seed, "flops": compute, "loss": 1 + (compute / 1e13) ** -0.3 + rng.normal(0, 0.01, evaluations)}
            )
            for name in series
            for seed in range(seeds)
        ],
        ignore_index=True,
    )


GROWN = [
    Transition(1e14, "experts ×8", of="growth"),
    Transition(1e15, "width ×2", of="growth"),
    Transition(4e15, "depth ×1.25", of="growth"),
]


def drawn(frame: pd.DataFrame | None = None, transitions=GROWN, **options):
    frame = trained(["dense", "growth"]) if frame is None else frame
    return phases(frame, "flops", "loss", transitions=transitions, **{"x_title": "compute (FLOPs)"} | options)


def poles(figure) -> list:
    """The part of each pole within the plot."""
    return [shape for shape in figure.layout.shapes if shape.x0 == shape.x1 and shape.ysizemode != "pixel"]


# What is drawn --------------------------------------------------------------------------------------------


def test_every_transition_has_its_pole_its_flag_and_its_mark_on_the_curve():
    frame = trained(["dense", "growth"])
    figure = drawn(frame)
    assert [pole.x0 for pole in poles(figure)] == [1e14, 1e15, 4e15]
    assert {pole.line.color for pole in poles(figure)} == {COLOURS["growth"]}
    assert [(a.text, 10**a.x) for a in figure.layout.annotations] == [
        (t.label, pytest.approx(t.at)) for t in GROWN
    ]  # annotations count logarithmic axes in decades
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    mean = frame[frame.method == "growth"].groupby("flops").loss.mean()
    assert [mark.y[0] for mark in marks] == [pytest.approx(np.interp(t.at, mean.index, mean), abs=1e-3) for t in GROWN]
    assert all(mark.legendgroup == "growth" and not mark.showlegend for mark in marks)
    assert all("Growth: " in mark.hovertemplate for mark in marks)


def test_a_transition_of_all_has_the_pages_ink_and_no_mark():
    figure = drawn(transitions=[Transition(1e15, "longer stories")])
    assert [pole.line.color for pole in poles(figure)] == [INK]
    assert all(trace.mode == "lines" for trace in figure.data)


def test_lines_are_means_with_bands_on_either_axis():
    for log in (True, False):
        figure = drawn(log=log, transitions=[])
        assert figure.layout.xaxis.type == ("log" if log else "linear")
        assert [bool(trace.fill) for trace in figure.data] == [True, False, True, False]
        low, high = figure.layout.xaxis.range
        ends = (13, 16) if log else (1e13, 1e16)
        assert low < ends[0] and ends[1] < high and high - low < 1.05 * (ends[1] - ends[0])


def test_the_compute_axis_reaches_to_transitions_that_are_not_yet_trained():
    figure = drawn(transitions=[Transition(1e17, "width ×2", of="growth")])
    assert figure.layout.xaxis.range[1] > 17 and all(trace.mode == "lines" for trace in figure.data)


def test_the_floor_has_room_below_it_for_its_name_where_no_pole_is():
    figure = drawn(floor=0.9, floor_name="entropy")
    low, high = figure.layout.yaxis.range
    line = next(shape for shape in figure.layout.shapes if shape.y0 == shape.y1)
    name = next(note for note in figure.layout.annotations if note.text == "entropy")
    assert line.y0 == 0.9 and name.y == 0.9 and name.yanchor == "top"
    height = figure.layout.height - figure.layout.margin.t - 100  # of the plot, about
    assert (0.9 - low) / (high - low) * height > 16
    assert all(pole.y0 == pytest.approx((0.9 - low) / (high - low), abs=1e-3) for pole in poles(figure))
    assert high > trained(["dense", "growth"]).loss.max()
    below = drawn(floor=1.2).layout.yaxis.range  # a loss below the floor, by chance or by a fault, is seen
    assert below[0] < trained(["dense", "growth"]).loss.min()


def test_before_and_after_a_transition_are_two_points():
    """A growth that changes the function: 1.5 before it, 1.9 after it, at the same compute."""
    frame = pd.DataFrame(
        [
            {"method": "growth", "seed": seed, "flops": flops, "loss": loss + seed / 10}
            for seed in (0, 1)
            for flops, loss in ((1, 2.0), (2, 1.5), (2, 1.9), (4, 1.2))
        ]
    )
    for log in (True, False):
        line = next(trace for trace in drawn(frame, [], log=log).data if trace.line.width == 2)
        assert list(line.x) == [1, 2, 2, 4]
        assert list(line.y) == [2.05, 1.55, 1.95, 1.25]


def test_a_jump_within_a_long_curve_stays_upright():
    flops = np.sort(np.append(np.linspace(1, 100, 4998), [50.5, 50.5]))
    loss = 3 - flops / 100
    first = int(np.searchsorted(flops, 50.5))
    loss[first + 1 :] += 0.05
    line = drawn(pd.DataFrame({"method": "growth", "seed": 0, "flops": flops, "loss": loss}), []).data[0]
    here = list(line.x).index(50.5)
    assert line.x[here + 1] == 50.5 and line.y[here : here + 2] == (2.495, 2.545)
    assert len(line.x) < 500


def test_the_start_has_no_place_on_a_logarithmic_axis():
    frame = trained(["growth"])
    frame.loc[frame.flops == frame.flops.min(), "flops"] = 0.0
    assert min(drawn(frame, []).data[1].x) > 0
    assert min(drawn(frame, [], log=False).data[1].x) == 0


def test_words_say_what_is_marked_and_where_the_floor_is():
    alt = drawn(floor=0.9).layout.meta["alt"]
    assert "Growth experts ×8 at 1e+14, Growth width ×2 at 1e+15 and Growth depth ×1.25 at 4e+15" in alt
    assert "entropy of the corpus: 0.9" in alt and "At the end: Dense" in alt


def test_many_long_curves_stay_small_and_plain():
    names = ["dense", *(f"growth, order {i}" for i in range(7))]
    marks = [
        Transition(10 ** (13.5 + 0.5 * i), label, of=name)
        for name in names[1:4]
        for i, label in enumerate(("experts ×8", "width ×2", "depth ×1.25"))
    ]
    text = json.dumps(drawn(trained(names, evaluations=1000), marks, floor=0.9).to_plotly_json(), allow_nan=False)
    assert len(text) < 50_000 and not re.search("bdata|http", text)


def test_what_cannot_be_drawn_says_what_to_do():
    with pytest.raises(ValueError, match="'growht', which is not drawn: use 'dense' and 'growth', or None"):
        drawn(transitions=[Transition(1e14, "experts ×8", of="growht")])
    with pytest.raises(ValueError, match="missing"):
        drawn(trained(["growth"]).iloc[:0], [])


# Flags ----------------------------------------------------------------------------------------------------


def clear(places, widths, to_left, rows) -> bool:
    """Whether no flag lies on another one or on a pole that goes up past it."""
    spans = [(place - width, place) if left else (place, place + width) for place, width, left in zip(places, widths, to_left)]
    for i, j in itertools.permutations(range(len(places)), 2):
        if rows[i] == rows[j] and spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]:
            return False
        if rows[j] >= rows[i] and spans[i][0] < places[j] < spans[i][1]:
            return False
    return True


def test_flags_are_clear_of_each_other_and_inside_on_narrow_and_on_wide_pages():
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = rng.integers(1, 5)
        places = np.sort(rng.uniform(5, NARROW - 5, count))
        widths = rng.uniform(8, 12, count).round() * CHARACTER + GAP
        to_left, rows = flags(places, widths)
        assert all(
            place - width >= -LEFT if left else place + width <= NARROW + RIGHT for place, width, left in zip(places, widths, to_left)
        )
        for wider in (1, 1.3, 3):
            assert clear(places * wider, widths, to_left, rows)


@pytest.mark.parametrize(
    "places, rows",
    [
        ([20, 100, 180], [0, 0, 0]),  # room for all beside each other
        ([20, 60, 100], [2, 1, 0]),  # to the right, the first on top
        ([160, 200, 240], [0, 1, 2]),  # to the left, the last on top
        ([100, 100], [1, 0]),  # two at one place, on one pole
        ([130], [0]),
        ([], []),
    ],
)
def test_rows(places, rows):
    to_left, found = flags(places, [70] * len(places))
    assert found == rows and len(to_left) == len(places)


def test_labels_too_many_or_too_long_for_the_page_have_a_row_each():
    assert flags([100, 150], [250, 250]) == ([False, True], [1, 0])
    to_left, rows = flags([9, 15, 73, 157, 210, 235], [84, 77, 96, 90, 58, 90])
    assert to_left == [False] * 3 + [True] * 3 and rows == [5, 4, 3, 0, 1, 2]


def test_rows_of_flags_make_the_figure_taller_not_the_plot_smaller():
    plain, flagged = drawn(transitions=[]), drawn()
    rows = 1 + max(round(note.yshift / ROW) for note in flagged.layout.annotations)
    assert flagged.layout.height - plain.layout.height == flagged.layout.margin.t - 34 == ROW * rows
