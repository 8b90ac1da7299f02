"""Axes are as long as what they show."""

import pandas as pd
import pytest

from lib.figures.axes import decades, within
from lib.figures.compare import dots, scaling
from lib.figures.maps import heat_map
from lib.measure.statistics import student


def test_few_decades_are_ticked_thrice_each_and_many_are_left_to_plotly():
    few = decades([0.003, 0.8], ".1~%")
    assert few == {"type": "log", "dtick": "D2", "tickformat": ".1~%"}
    assert "dtick" not in decades([1e-6, 1])
    assert decades([0, 5])["dtick"] == "D2"  # zero has no logarithm and no say


def test_intervals_beyond_all_shares_do_not_stretch_the_axis():
    wide = student([0.2, 0.9])
    assert wide.high > 1 > 0 > wide.low
    assert within([wide], ".1%") == {"autorangeoptions": {"clipmin": 0, "clipmax": 1}}
    assert within([wide], ".2f") == {}
    assert within([student([1.4, 1.6])], ".0%") == {}  # a ratio, not a share
    assert within([student([-0.3, 0.1])], "+.1%") == {}  # a difference


@pytest.mark.parametrize("draw", (dots, scaling))
def test_the_figures_of_two_seeds_stay_within_0_and_1(draw):
    frame = pd.DataFrame({"name": ["a", "a", "b", "b"], "size": [1, 1, 1, 1], "right": [0.1, 0.9, 0.5, 0.5]})
    if draw is dots:
        axis = dots(frame, "right", "name", format=".0%").layout.xaxis
    else:
        axis = scaling(frame, "size", "right", "name", format=".0%").layout.yaxis
    assert (axis.autorangeoptions.clipmin, axis.autorangeoptions.clipmax) == (0, 1)


def test_small_maps_print_their_numbers_and_large_ones_do_not():
    told = {"x_title": "a", "y_title": "b", "value_title": "c", "format": ".0%"}
    assert heat_map([[0.1, 0.9]], **told).data[0].texttemplate == "%{z:.0%}"
    assert heat_map([[0.1] * 20], **told).data[0].texttemplate is None
