"""What the first regime's page says is what its table holds, for all runs, for a part of them and for none."""

import numpy as np
import pandas as pd
import pytest

from lib.figures.drops import drop_figure
from lib.measure.paired import Difference
from lib.studies.benchmarks.page.practice import (
    DRAWN,
    answer_rows,
    factor,
    findings,
    folded,
    headline,
    in_practice,
    method_rows,
    pair_rows,
    points,
    share_of_training,
    smallest,
    time_rows,
)
from lib.studies.benchmarks.practice_names import KINDS
from lib.studies.benchmarks.practice_table import WHOLE


def row(name, kind, smaller, apart, *, steps=90, ratio=1.0, val=None, parameters=500_000):
    return {
        "name": name,
        "kind": kind,
        "val_accuracy": 0.9 + apart,
        "test_accuracy": 0.89 + apart,
        "file_bytes": 2e6 / smaller,
        "smaller": smaller,
        "parameters": parameters,
        "flops": 66e6,
        "flops_nonzero": 60e6,
        "training": steps / 1080,
        "steps": steps,
        "val_before": 0.5 if steps else np.nan,
        "seeds": 3,
        "val_apart": apart if val is None else val,
        "apart": apart,
        "low": apart - 0.004,
        "high": apart + 0.004,
        "same_work": ratio == 1.0,
        "ratio_1": ratio,
        "ratio_many": ratio,
    }


@pytest.fixture
def table():
    return pd.DataFrame(
        [
            row(WHOLE, "dense", 1, 0.0, steps=0),
            row("as it is, 16 bits", "dense", 2, 0.0, steps=0),
            row("trained on, 16 bits", "dense", 2, 0.001),
            row("8-bit integer products", "int8", 4.1, -0.002, steps=0, ratio=0.6),
            row("2-bit codebooks", "codebooks", 15, -0.02),
            row("pruned to 1/8", "pruning", 12, -0.005),
            row("channels, 4× fewer weights", "channels", 8, -0.03, ratio=0.45, parameters=125_000),
        ]
    )


def test_answers_meet_what_is_wanted_and_lose_least(table):
    found = answer_rows(table).set_index("You want")["Use"]
    assert found["4× smaller file, no training"] == "8-bit integer products" == found["4× smaller file"]
    assert found["8× smaller file"] == "pruned to 1/8"
    assert found["2× faster, batches"] == "channels, 4× fewer weights"
    assert found["16× smaller file"] == "nothing that was run does it"


def test_of_equals_the_faster_one_is_taken(table):
    table.loc[len(table)] = row("rounded to 8 bits", "rounding", 4.1, -0.002, steps=0)
    assert answer_rows(table[::-1]).set_index("You want")["Use"]["4× smaller file"] == "8-bit integer products"


def test_a_lucky_test_set_chooses_nothing(table):
    table.loc[table["name"] == "2-bit codebooks", "apart"] = 0.05  # best on the test images, not on validation
    assert answer_rows(table).set_index("You want")["Use"]["8× smaller file"] == "pruned to 1/8"


def test_the_smallest_file_is_the_smallest_of_those_that_lose_little_on_validation(table):
    assert smallest(table)["name"] == "pruned to 1/8"
    table["val_apart"] = -0.5
    assert smallest(table) is None


def test_the_headline_is_a_row_of_the_table_of_answers_with_what_equal_training_is_worth(table):
    equal = Difference(-0.009, -0.012, -0.006, 3, 100, "")
    told = headline(table, {"pruned to 1/8": equal}.get)
    assert told == (
        "A trained network's file becomes 12.0 times smaller by *pruned to 1/8*, at -0.5 [-0.9, -0.1] points of accuracy, "
        "or -0.9 [-1.2, -0.6] against the same further training without compression."
    )
    table.loc[len(table)] = row("2-bit codebooks, pruned", "codebooks", 20, -0.03)
    answer = answer_rows(table).set_index("You want").loc["16× smaller file"]
    bare = headline(table, {}.get)
    assert (
        answer["Use"] in bare
        and answer["Smaller"].rstrip("×") in bare
        and answer["Points"] in bare
        and bare.endswith("points of accuracy.")
    )
    assert headline(table[:2], {}.get) == headline(table[:0], {}.get) == ""


def test_findings_and_advice_have_the_numbers_of_the_table(table):
    said, advice = "; ".join(findings(table)), in_practice(table)
    assert "89.0%" in said and "-0.2 [-0.6, +0.2]" in said and "1.7 times as fast in batches" in said and "12.0 times smaller" in said
    assert "4.0 times fewer weights" in said and "+0.1 [-0.3, +0.5]" in said
    assert "1.7 times as fast" in advice and "*channels, 4× fewer weights*" in advice and advice.startswith('<div class="in-practice">')


def test_advice_does_not_praise_what_is_slow(table):
    table.loc[table["kind"] == "int8", ["ratio_1", "ratio_many"]] = 1.3
    assert "not faster in batches" in in_practice(table)
    table.loc[table["kind"] == "int8", ["ratio_1", "ratio_many"]] = np.nan
    assert "processor" not in in_practice(table)


def test_a_part_and_nothing_can_be_shown(table):
    part = table[:2]
    assert len(findings(part)) == 2 and len(method_rows(part)) == 2
    assert findings(table[:0]) == [] and in_practice(table[:0]) == "" and answer_rows(table[:0]).empty


def test_cells_are_spelled():
    assert factor(0.5) == "2.0×" and factor(float("nan")) == "–"
    assert share_of_training(0) == "none" and share_of_training(1 / 12) == "8.3 %"
    assert points({"apart": -1e-4, "low": -0.01, "high": 0.0}) == "+0.0 [-1.0, +0.0]"


def test_a_folded_table_has_every_cell(table):
    text = folded("All", method_rows(table))
    assert text.startswith("<details>") and all(name in text for name in table["name"])


def test_a_pair_says_which_is_better():
    frame = pd.DataFrame(
        [
            {
                "question": "?",
                "first": "a",
                "second": "b",
                "difference": Difference(mean, mean - 0.01, mean + 0.01, 3, 100, ""),
                "first_bytes": 2000.0,
                "second_bytes": 150_000.0,
            }
            for mean in (0.02, -0.02, 0.001)
        ]
    )
    found = pair_rows(frame)
    assert list(found["So"]) == ["the first is better", "the second is better", "not told apart"]
    assert found["First minus second"][0] == "+2.0 [+1.0, +3.0]" and found["First"][0] == "a, 2.0 kB" and found["Second"][0] == "b, 150 kB"


def test_times_are_told_network_by_network():
    times = pd.DataFrame(
        [
            {"shape": ((16, 32), ranks, int8), "batch": batch, "ms": 2.0, "ratio": 0.5, "ratio_p05": 0.4, "ratio_p95": 0.6}
            for ranks, int8 in (((), False), ((), True), ((3, 4, 5, 6), False))
            for batch in (1, 256)
        ]
    )
    shown = time_rows(times)
    assert len(shown) == 3 and list(shown["Products"]) == ["32-bit", "8-bit integers", "32-bit"] and "3-4-5-6" in shown["Network"].iloc[2]


def test_every_kind_is_drawn_and_has_a_reason():
    assert set(DRAWN) == set(KINDS) and all(KINDS.values())


def test_the_figure_has_a_line_for_each_kind_and_whiskers(table):
    figure = drop_figure(table, DRAWN, least=-5.0)
    drawn = [trace for trace in figure.data if trace.x]
    assert len(drawn) == table["kind"].nunique() and figure.layout.xaxis.type == "log" and figure.layout.yaxis.range[0] == -5.0
    pruned = next(trace for trace in drawn if list(trace.text) == ["pruned to 1/8"])
    assert pruned.y[0] == pytest.approx(-0.5) and pruned.error_y.array[0] == pytest.approx(0.4) and "times" in figure.layout.meta["alt"]
    with pytest.raises(ValueError, match="no drop"):
        drop_figure(table[:0], DRAWN)
