"""Accuracy over the share of the weights: readable ticks, and words that name the narrow end."""

import numpy as np
import pandas as pd
import pytest

from lib.figures.shares import at_narrow_end, over_shares, told

ROWS = pd.DataFrame(
    [
        {"method": method, "seed": seed, "density": share, "accuracy": level - 0.1 * (1 - share) + 0.01 * seed}
        for method, level, shares in (("ticket", 0.9, (1.0, 0.5, 0.48, 0.1)), ("random mask", 0.8, (1.0, 0.5, 0.1, 0.05)))
        for seed in (0, 1)
        for share in shares
    ]
)


def test_ticks_are_apart_and_the_largest_share_stands_on_the_left():
    axis = over_shares(ROWS).layout.xaxis
    assert axis.autorange == "reversed" and list(axis.ticktext) == ["100%", "50%", "10%", "5%"]
    assert np.exp(np.diff(np.log(axis.tickvals))) == pytest.approx([0.5, 0.2, 0.5])


def test_a_line_marks_the_dense_network_only_where_it_is_known():
    assert len(over_shares(ROWS).layout.shapes) == 0
    marked = over_shares(ROWS, 0.93, "dense networks, mean")
    assert [annotation.text for annotation in marked.layout.annotations] == ["dense networks, mean"]
    assert marked.layout.meta["alt"] == told(ROWS)


def test_words_tell_each_method_at_its_own_end_and_the_best_at_the_common_one():
    assert told(ROWS).endswith("ticket 81.5% at 10.0%, random mask 71.0% at 5.0%.")
    assert at_narrow_end(ROWS).startswith("With 10.0% of the weights left: ") and "icket" in at_narrow_end(ROWS)
    assert at_narrow_end(ROWS[ROWS["density"] == 1]) == ""
