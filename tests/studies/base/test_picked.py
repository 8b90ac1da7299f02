"""Runs picked for tables: what lacks a value or a partner is left out, and what a study lacks is not forgotten."""

import pandas as pd

from lib.runs.results import Missing, Result, Results
from lib.studies.base.picked import chosen, column, gains, grouped, joined, named


def run(name, seed, **metrics):
    return Result("x", f"{name}{seed}", {"name": name, "seed": seed}, metrics, {}, {}, {})


def called(result):
    return result.spec["name"]


A, B = run("a", 0, test_accuracy=0.5), run("a", 1, test_accuracy=0.75)
C, D = run("b", 1, test_accuracy=0.25), run("b", 2)
LACKS = Missing(None, "not run")


def test_runs_are_picked_by_name_and_what_is_missing_stays():
    found = named(Results((A, B, C, D), (LACKS,)), called, ["b"])
    assert list(found) == [C, D] and found.missing == (LACKS,)
    both = joined(found, Results((A,), (LACKS,)))
    assert list(both) == [C, D, A] and both.missing == (LACKS, LACKS)
    assert grouped([C, A, D], called) == {"b": [C, D], "a": [A]}


def test_values_that_are_not_there_are_left_out():
    assert column([A, D, C]) == [0.5, 0.25]
    assert gains([A, B], [C]) == [0.5]
    assert gains([A], [C]) == []


def test_rows_are_chosen_by_all_fields():
    frame = pd.DataFrame({"model": ["x", "x", "y"], "bits": [3, 4, 3]})
    assert chosen(frame, model="x", bits=3).index.tolist() == [0]
    assert chosen(frame, colour="red").empty and list(chosen(frame, colour="red")) == ["model", "bits"]
