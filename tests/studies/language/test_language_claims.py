"""What the language chapter's claims and needs read from results that are made up by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.language import needs
from lib.studies.language.names import OWN, SMOL, frame, ratio, table, windows
from lib.studies.language.tables import by_strength, in_words, perplexity, smallest_within

METHODS = {
    "Untouched": {},
    "PrunedLM": {"by": "magnitude", "density": 0.5, "pattern": "", "per": "row", "bits_left": None, "group": None},
    "RoundedLM": {"by": "nearest", "bits_each": 4, "group": None, "symmetric": False},
    "RoundedActivationsLM": {"by": "nearest", "weight_bits": 8, "activation_bits": 8, "alpha": 0.5},
    "ShortenedLM": {"by": "influence", "count": 1},
}


def lm(model, text=24):
    """A model's part of a Spec, with ``text`` windows of calibration text."""
    return (
        {"type": "PretrainedLM", "calibration": text, "length": 512}
        if model == SMOL
        else {"type": "OwnLM", "calibration": text, "gpt": {"context": 128, "width": 32}}
    )


def run(model, kind, loss, seed=0, spread=0.0, simple=6.0, text=24, **fields):
    """A result whose windows have losses around ``loss``, the same pattern for every run."""
    losses = (np.array([-0.3, 0.1, 0.2, 0.0]) + loss + spread * np.array([1, -1, 1, -1])).tolist()
    return SimpleNamespace(
        spec={"seed": seed, "model": lm(model, text), "method": {"type": kind} | METHODS[kind] | fields},
        metrics={
            "loss": loss,
            "perplexity": math.exp(loss),
            "simple_loss": simple,
            "simple": "unigram",
            "bytes": 100,
            "bits": 9.0,
            "zeros": 0.5,
            "compress_seconds": 1.0,
            "sample": None,
        },
        arrays={"losses": losses},
    )


def results(*found):
    return Results(tuple(found))


def seeded(model, kind, loss, spread=0.0, step=0.01, **fields):
    return [run(model, kind, loss + step * seed, seed, spread, **fields) for seed in range(3)]


DENSE = results(run(SMOL, "Untouched", 3.0), *seeded(OWN, "Untouched", 1.0))


def pruning(smol=3.4, own=1.2, **fields):
    return results(
        run(SMOL, "PrunedLM", 4.0),
        *seeded(SMOL, "PrunedLM", smol, by="sparsegpt"),
        *seeded(OWN, "PrunedLM", 1.5),
        *seeded(OWN, "PrunedLM", own, by="sparsegpt"),
    )


def test_a_ratio_of_perplexities_is_paired_by_window_and_seed():
    found = reads("sparsegpt-half")({"pruning": pruning(), "dense": DENSE})
    assert set(found) == {SMOL, OWN}
    assert found[SMOL].mean == pytest.approx(math.exp(-0.59)) and found[OWN].mean == pytest.approx(math.exp(-0.3))
    assert found[SMOL].low < found[SMOL].mean < found[SMOL].high < 1
    assert found[OWN].high - found[OWN].low < 1e-6  # windows and seeds cancel out


def test_too_few_seeds_and_missing_arms_decide_nothing():
    one = results(run(SMOL, "PrunedLM", 4.0), run(SMOL, "PrunedLM", 3.4, by="sparsegpt"))
    found = reads("sparsegpt-half")({"pruning": one, "dense": DENSE})
    assert isinstance(found[SMOL], NotTestable) and "1 of 3 seeds" in str(found[SMOL])
    with pytest.raises(NotTestable, match="not both run"):
        reads("wanda-half")({"pruning": one, "dense": DENSE})


def test_a_model_that_loses_nothing_decides_nothing():
    harmless = results(
        run(SMOL, "PrunedLM", 3.0, spread=0.05),
        *seeded(SMOL, "PrunedLM", 2.9, by="sparsegpt"),
        *seeded(OWN, "PrunedLM", 1.5),
        *seeded(OWN, "PrunedLM", 1.2, by="sparsegpt"),
    )
    found = reads("sparsegpt-half")({"pruning": harmless, "dense": DENSE})
    assert isinstance(found[SMOL], NotTestable) and "nothing is lost" in str(found[SMOL]) and found[OWN].mean < 1
    needs.pruning_to_half_hurts({"pruning": harmless, "dense": DENSE})  # one model is enough
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.pruning_to_half_hurts({"pruning": results(run(SMOL, "PrunedLM", 3.0), *seeded(OWN, "PrunedLM", 1.0)), "dense": DENSE})


def test_what_is_fitted_needs_text():
    few = results(run(SMOL, "PrunedLM", 4.0), *(run(SMOL, "PrunedLM", 3.4, seed, by="sparsegpt", text=8) for seed in range(3)))
    found = reads("sparsegpt-half")({"pruning": few, "dense": DENSE})
    assert isinstance(found[SMOL], NotTestable) and "2.7 tokens for each feature" in str(found[SMOL])
    with pytest.raises(NotTestable, match="so little text"):
        needs.fitted_methods_have_text({"pruning": few})
    needs.fitted_methods_have_text({"pruning": pruning(), "calibration": few})
    with pytest.raises(NotTestable, match="nothing was fitted"):
        needs.fitted_methods_have_text({"pruning": results()})


def test_a_model_must_know_more_than_counts():
    needs.dense_knows_more_than_counts({"dense": DENSE})
    with pytest.raises(NotTestable, match="it has not learnt a language"):
        needs.dense_knows_more_than_counts({"dense": results(run(SMOL, "Untouched", 7.0), run(OWN, "Untouched", 6.5))})
    with pytest.raises(NotTestable, match="was not judged"):
        needs.dense_knows_more_than_counts({"dense": results()})


def test_patterns_and_four_bit_activations_must_cost_something():
    patterned = {"patterns": results(*seeded(OWN, "PrunedLM", 1.6, pattern="2:4")), "dense": DENSE}
    needs.pruning_to_two_in_four_hurts(patterned)
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.pruning_to_two_in_four_hurts(patterned | {"patterns": results(*seeded(OWN, "PrunedLM", 1.0, pattern="2:4"))})
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.plain_four_bits_hurt({"activations": results(*seeded(OWN, "RoundedActivationsLM", 1.0, activation_bits=4)), "dense": DENSE})


def layers(ratio, model=SMOL):
    return results(
        SimpleNamespace(spec={"model": {"type": "PretrainedLM" if model == SMOL else "OwnLM"}}, metrics={"channel_ratio": ratio})
    )


def activations(plain, smooth):
    return results(run(SMOL, "RoundedActivationsLM", plain), *seeded(SMOL, "RoundedActivationsLM", smooth, by="smoothquant"))


def test_smoothquant_needs_outliers_and_something_to_lose():
    good = {"activations": activations(3.5, 3.1), "dense": DENSE, "layers": layers(80.0)}
    assert reads("smoothquant-plain")(good)[SMOL].mean == pytest.approx(math.exp(-0.39))
    assert reads("smoothquant-lossless")(good)[SMOL].mean == pytest.approx(math.exp(0.11))
    needs.there_are_outlier_channels(good)
    needs.plain_eight_bits_hurt(good)
    even = good | {"layers": layers(4.0)}
    assert "no outlier channels" in str(reads("smoothquant-plain")(even)[SMOL])
    with pytest.raises(NotTestable, match="no outlier channels"):
        needs.there_are_outlier_channels(even)
    with pytest.raises(NotTestable, match="was not looked at"):
        needs.there_are_outlier_channels(good | {"layers": results()})
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.plain_eight_bits_hurt(good | {"activations": activations(3.0, 3.1)})


def test_four_bit_activations_and_rotations():
    found = {
        "activations": results(
            run(SMOL, "RoundedActivationsLM", 6.0, activation_bits=4),
            *seeded(SMOL, "RoundedActivationsLM", 4.0, by="rotation", activation_bits=4),
        ),
        "dense": DENSE,
    }
    assert reads("quarot-four")(found)[SMOL].mean == pytest.approx(math.exp(-1.99))
    needs.plain_four_bits_hurt(found)
    with pytest.raises(NotTestable, match="was not run"):
        needs.plain_eight_bits_hurt(found)


def test_rounding_claims_take_the_bits_that_they_name():
    rounding = results(
        *seeded(OWN, "RoundedLM", 1.3, bits_each=3),
        *seeded(OWN, "RoundedLM", 1.1, by="gptq", bits_each=3),
        *seeded(OWN, "RoundedLM", 1.2, by="awq", bits_each=3),
        *seeded(OWN, "RoundedLM", 1.02, by="gptq"),
    )
    studies = {"rounding": rounding, "dense": DENSE}
    for function, value in (
        (reads("gptq-three"), -0.2),
        (reads("awq-three"), -0.1),
        (reads("awq-gptq"), 0.1),
        (reads("gptq-four"), 0.02),
    ):
        assert function(studies)[OWN].mean == pytest.approx(math.exp(value))
    needs.rounding_to_three_bits_hurts(studies)
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.rounding_to_three_bits_hurts(studies | {"rounding": results(*seeded(OWN, "RoundedLM", 0.9, bits_each=3))})


def test_joint_rows_and_wanda():
    joint = results(*seeded(OWN, "PrunedLM", 1.2, by="sparsegpt", bits_left=4), *seeded(OWN, "RoundedLM", 1.3, by="gptq", bits_each=3))
    assert reads("sparsegpt-joint")({"joint": joint, "dense": DENSE})[OWN].mean == pytest.approx(math.exp(-0.1))
    rows = results(*seeded(OWN, "PrunedLM", 1.2, by="wanda"), *seeded(OWN, "PrunedLM", 1.25, by="wanda", per="layer"))
    assert reads("wanda-rows")({"rows": rows, "dense": DENSE})[OWN].mean == pytest.approx(math.exp(-0.05))
    both = results(*seeded(OWN, "PrunedLM", 1.5), *seeded(OWN, "PrunedLM", 1.3, by="wanda"), *seeded(OWN, "PrunedLM", 1.2, by="sparsegpt"))
    assert reads("wanda-sparsegpt")({"pruning": both, "dense": DENSE})[OWN].mean == pytest.approx(math.exp(0.1))


def test_depth_compares_as_many_blocks():
    depth = results(
        *seeded(OWN, "ShortenedLM", 1.2, count=2),
        *seeded(OWN, "ShortenedLM", 1.05, count=1),
        *seeded(OWN, "ShortenedLM", 1.6, by="random", count=2),
    )
    studies = {"depth": depth, "dense": DENSE}
    assert reads("shortgpt-influence")(studies)[OWN].mean == pytest.approx(math.exp(-0.4))
    needs.removing_blocks_hurts(studies)
    with pytest.raises(NotTestable, match="not removed in both ways"):
        reads("shortgpt-influence")({"depth": results(*seeded(OWN, "ShortenedLM", 1.2, count=2)), "dense": DENSE})
    harmless = results(*seeded(OWN, "ShortenedLM", 1.0, count=2), *seeded(OWN, "ShortenedLM", 1.6, by="random", count=2))
    with pytest.raises(NotTestable, match="nothing is lost"):
        needs.removing_blocks_hurts({"depth": harmless, "dense": DENSE})
    with pytest.raises(NotTestable, match="no random blocks"):
        needs.removing_blocks_hurts({"depth": results(*seeded(OWN, "ShortenedLM", 1.2, count=2)), "dense": DENSE})


def test_tables_pair_one_run_with_every_draw_of_one_model_only():
    one, three = {0: np.zeros(4)}, {seed: np.ones(4) for seed in range(3)}
    assert table(three, one, SMOL, (False, True)).shape == (3, 4) and table(one, three, SMOL, (True, False)).shape == (3, 4)
    assert table(three, one, SMOL).shape == (1, 4)  # one draw of three is no method that draws nothing
    assert table(three, one, OWN, (False, True)).shape == (1, 4) and table({}, one, SMOL, (False, True)) is None
    with pytest.raises(ValueError, match="two runs"):
        windows(results(run(OWN, "PrunedLM", 1.0), run(OWN, "PrunedLM", 2.0, density=0.3)), OWN, by="magnitude")
    assert ratio(np.full((3, 4), math.log(2))).mean == pytest.approx(2)


def test_what_the_page_says():
    found = frame(results(run(SMOL, "Untouched", 3.0), run(SMOL, "PrunedLM", 4.0), *seeded(SMOL, "PrunedLM", 3.05, by="sparsegpt")))
    assert found["strength"].tolist() == ["16 bits", "50% zeros", "50% zeros", "50% zeros", "50% zeros"]
    assert in_words(found, ("magnitude", "Wanda", "SparseGPT"), model=SMOL) == f"54.6 by magnitude and {math.exp(3.06):.1f} by SparseGPT"
    assert perplexity(found, method="Wanda") is None and len(by_strength(found)) == 2
    found.loc[found["method"] == "SparseGPT", "bytes"] = 50
    best = smallest_within(found, SMOL, math.exp(3.0), 0.1)
    assert best["method"] == "SparseGPT" and smallest_within(found, SMOL, math.exp(3.0), 0.01) is None
