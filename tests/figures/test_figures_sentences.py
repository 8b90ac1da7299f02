"""Sentences below figures say "best" and "more than chance" only where the numbers do."""

import pandas as pd
import pytest

from lib.figures.sentences import against, best, difference


def frame(**methods):
    return pd.DataFrame(
        [{"method": name, "seed": seed, "test_accuracy": value} for name, values in methods.items() for seed, value in enumerate(values)]
    )


def test_the_best_is_ahead_or_as_good_within_chance():
    clear = best(frame(switch=[0.70, 0.72, 0.71], dense=[0.60, 0.62, 0.61]), "test_accuracy")
    assert clear.startswith("Switch has the highest test accuracy, 71.0 ± 2.5 %") and "Dense follows, 10.00" in clear
    near = best(frame(switch=[0.70, 0.72, 0.71], dense=[0.72, 0.69, 0.71]), "test_accuracy", what="accuracy")
    assert "highest accuracy" in near and "its lead over dense, 0.33 ± " in near and near.endswith("is within chance.")
    least = best(frame(switch=[3.0, 3.1], dense=[1.0, 1.1]), "test_accuracy", least=True)
    assert least.startswith("Dense has the lowest")
    assert best(frame(switch=[1.0]), "test_accuracy") == "", "one alone is not the best of anything"


def test_two_are_compared_seed_by_seed():
    runs = frame(switch=[0.10, 0.50, 0.90], dense=[0.09, 0.49, 0.89])
    assert difference(runs, "test_accuracy", "switch", "dense").half_width == pytest.approx(0, abs=1e-9)
    assert "a difference of +1.00 ± 0.00 points" in against(runs, "test_accuracy", "switch", "dense")
    apart = runs[(runs["method"] != "dense") | (runs["seed"] > 0)]
    assert difference(apart, "test_accuracy", "switch", "dense").low < -0.5, "other seeds: nothing cancels"
    assert "no difference beyond chance" in against(apart, "test_accuracy", "switch", "dense")


def test_nothing_is_said_of_what_is_not_there():
    assert against(frame(switch=[0.1]), "test_accuracy", "switch", "dense") == ""


def test_names_within_a_sentence():
    text = against(frame(hash=[0.1, 0.2], switch=[0.1, 0.3]), "test_accuracy", "hash", "switch")
    assert text.startswith("Hash reaches") and ", Switch " in text
    assert ", dense " in against(frame(switch=[0.1, 0.2], dense=[0.1, 0.3]), "test_accuracy", "switch", "dense")
