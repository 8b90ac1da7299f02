"""The benchmarks chapter: every run has a name, rows are held against the right ones, claims read the right runs."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from claimed import reads
from lib.book.notebooks import Project, labels_of, read
from lib.claims.judge import judge
from lib.measure.statistics import NotTestable
from lib.runs.results import Missing, Outcome, Result, Results
from lib.runs.spec import all_fields
from lib.studies import CHAPTERS
from lib.studies.base.answers import correct_of, written
from lib.studies.benchmarks import compared as benchmark_compared
from lib.studies.benchmarks import needs
from lib.studies.benchmarks.compared import compared, one_seed, rank_agreement, relative, side_by_side, weak_baseline, wide
from lib.studies.benchmarks.names import PLACES, family, name, place
from lib.studies.benchmarks.studies import SIZES, Parameters, studies


def told(spec):
    return all_fields(spec)


@pytest.fixture(scope="module")
def specs():
    return studies(Parameters(scale="gpu", seeds=2))


def result(spec, accuracy, images=200, **metrics):
    """A result with that test accuracy, the same images right for the same accuracy."""
    random = np.random.default_rng(spec.seed)
    right = random.permutation(images) < accuracy * images
    return Result.of(
        spec,
        Outcome(
            {"test_accuracy": float(right.mean()), "val_accuracy": accuracy, "diverged": False, **metrics},
            {},
            {"correct": written(torch.from_numpy(right))},
        ),
        {"device": "cpu"},
    )


def made(specs, accuracy, **metrics):
    """Results of some Specs, with what ``accuracy(name, family, seed)`` says."""
    return Results(tuple(result(spec, accuracy(name(told(spec)), family(told(spec)), spec.seed), **metrics) for spec in specs), ())


def test_each_run_has_a_name_of_its_own_and_a_place_in_the_book(specs):
    for study in ("dense", "starts", "compressed", "halves", "orders"):
        called = [(name(told(spec)), family(told(spec)), spec.seed) for spec in specs[study]]
        assert len(set(called)) == len(called), study
    labels = {
        f"{chapter.slug}.html#{label}"
        for chapter in CHAPTERS
        for cell in read(Project().source(chapter)).cells
        if cell.cell_type == "markdown"
        for label in labels_of(cell)
    }
    for _, link in PLACES.values():
        assert link in labels
    assert place(told(specs["orders"][-1]))[0] == "combined"


@pytest.mark.parametrize("scale, counts", [("smoke", (0, 1, 2, 3)), ("cpu", (0, 3)), ("gpu", (0, 3))])
def test_every_sequence_of_stages_stands_once(scale, counts):
    orders = studies(Parameters(scale=scale))["orders"]
    stages = [tuple(type(stage).__name__ for stage in spec.stages) for spec in orders if spec.seed == 0]
    assert sorted(stages) == sorted(order for count in counts for order in itertools.permutations(("Prune", "Quantize", "Distil"), count))


def test_starts_and_chains_share_their_budget(specs):
    for spec in specs["compressed"] + specs["orders"]:
        assert spec.parent.share + spec.share == 1 and spec.parent.seed == spec.seed
    for spec in specs["dense"]:
        assert spec.share == 1
    assert all(trial.seed == 0 for spec in specs["times"] for trial in spec.trials)


@pytest.mark.parametrize("scale", SIZES)
def test_knobs_reach_the_runs(scale):
    found = studies(Parameters(scale=scale, dataset="mnist", epochs=3, experts=4, bits=3, density=0.1))
    assert {spec.task.dataset for spec in found["dense"]} == {"mnist"} and {spec.task.epochs for spec in found["dense"]} == {3}
    assert {spec.task.vit.image_size for spec in found["dense"]} == {28}
    assert "Switch, 4 experts" in [name(told(spec)) for spec in found["starts"]]
    assert "elastic, small → pruned to 10 % → 3 bits → distilled" in [name(told(spec)) for spec in found["orders"]]


def test_answers_survive_being_written():
    for count in (1, 7, 8, 360):
        right = torch.rand(count) < 0.5
        assert correct_of(written(right)).tolist() == right.tolist()
    with pytest.raises(ValueError, match="damaged"):
        correct_of("9:ff")


def test_rows_are_held_against_the_dense_network_and_the_best_of_no_larger_file(specs):
    def accuracy(name, family, seed):
        return {"dense": 0.9, "dense, 1/2 width": 0.7, "dense, 1/3 width": 0.5, "4 bits": 0.8}.get(name, 0.6)

    bytes_of = {"dense": 1000.0, "dense, 1/2 width": 300.0, "dense, 1/3 width": 200.0, "4 bits": 310.0, "2 bits": 100.0}
    runs = [
        dataclasses.replace(one, metrics=one.metrics | {"file_bytes": bytes_of.get(name(one.spec), 900.0)})
        for one in made(specs["dense"] + specs["compressed"], accuracy)
    ]
    rows = compared(runs, "laptop")
    vit = rows[(rows["family"] == "vit") & (rows["seed"] == 0)].set_index("name")
    assert vit.loc["4 bits", "narrower"] == "dense, 1/2 width" and vit.loc["4 bits", "against_narrower"] == "above"
    assert vit.loc["4 bits", "against_dense"] == "below" and vit.loc["4 bits", "apart"] == pytest.approx(-0.1)
    assert pd.isna(vit.loc["2 bits", "narrower"]) and pd.isna(vit.loc["dense", "narrower"])
    assert vit.loc["dense", "apart"] == 0 and vit.loc["4 bits", "images"] == 200
    tied = [dataclasses.replace(one, metrics=one.metrics | {"val_accuracy": 0.6}) for one in runs]
    again = compared(tied, "laptop")
    assert set(again.loc[again["name"] == "4 bits", "narrower"]) == {"dense, 1/2 width"}  # the first in order, not in a set's
    with_start = made(specs["halves"], lambda *_: 0.55)
    halves = pd.DataFrame([{"family": family(one.spec), **one.metrics} for one in with_start])
    count, like_start, like_whole = weak_baseline(rows, halves)
    assert (count, like_start, like_whole) == (18, 18, 0)


def test_one_seed_misleads_as_often_as_counted():
    rows = pd.DataFrame(
        [
            {"family": "vit", "name": name, "seed": seed, "test_accuracy": value}
            for name, values in {"a": (0.5, 0.7), "b": (0.55, 0.6)}.items()
            for seed, value in enumerate(values)
        ]
    )
    assert one_seed(rows) == 2 / 4  # a is better on average: 0.5 is below both values of b
    assert one_seed(rows[rows["seed"] == 0]) is None


def test_times_and_counts_go_over_the_dense_network():
    counts = dict.fromkeys(benchmark_compared.COUNTS, 10.0)
    rows = pd.DataFrame(
        [
            {"key": "d", "family": "vit", "name": "dense", "method": "dense", **counts},
            {"key": "s", "family": "vit", "name": "small", "method": "dense", **counts | {"flops": 5.0}},
        ]
    )
    times = pd.DataFrame(
        [
            {
                "key": key,
                "name": called,
                "family": "vit",
                "batch": batch,
                "form": "dense",
                "ms": ms,
                "p95_ms": 2 * ms,
                "mean_ms": ms,
                "ratio": ms / 4,
                "mean_ratio": ms / 4,
                "images_per_second": batch / ms,
                "peak_bytes": 2.0**20,
            }
            for key, called, ms in (("d", "dense", 4.0), ("s", "small", 3.0))
            for batch in (1, 256)
        ]
    )
    found = relative(rows, times)
    assert found["flops"].tolist() == [1, 1, 0.5, 0.5] and found["time"].tolist() == [1, 1, 0.75, 0.75]
    assert rank_agreement(rows, times)["FLOPs as they run"] == {1: pytest.approx(1), 256: pytest.approx(1)}
    assert wide(times).set_index("key").loc["s"].tolist() == [3.0, 3.0, 2.0**20]
    assert side_by_side(times)["time over dense, 256"].tolist() == ["1.00", "0.75"]


@pytest.mark.parametrize(
    "claim, expected",
    [
        ("train-large-then-compress", 0.15),
        ("quantize-rather-than-prune", -0.10),
        ("prune-at-high-ratios", 0.1),
        ("scratch-as-good", 0.10),
        ("prune-and-quantize-free", -0.20),
    ],
)
def test_claims_compare_the_right_runs(specs, claim, expected):
    given = {
        "dense": 0.9,
        "dense, 1/2 width": 0.7,
        "dense, 1/2 of the inner units": 0.7,
        "pruned to 1/4": 0.85,
        "pruned to 1/8": 0.6,
        "4 bits": 0.75,
        "2 bits": 0.5,
        "1/2 of the inner units removed": 0.6,
        "pruned to 1/4 → 4 bits": 0.7,
    }
    values = reads(claim)(studies_with(specs, lambda name, *_: given.get(name, 0.3)))
    assert set(values) == ({"transformer"} if claim == "train-large-then-compress" else {"transformer", "residual network"})
    for interval in values.values():  # of two seeds and 200 images that all answered
        assert interval.mean == pytest.approx(expected) and (interval.n, interval.images) == (2, 200) and interval.low < interval.mean


def studies_with(specs, accuracy, halves=lambda name, family, seed: 0.95):
    """What the claims on compressed networks read; ``halves``: accuracies after half of the budget."""
    return {study: made(specs[study], accuracy) for study in ("dense", "compressed")} | {"halves": made(specs["halves"], halves)}


def test_families_are_never_averaged_and_one_is_enough_where_a_method_may_be_better(specs):
    def accuracy(name, family, seed):
        return {
            "dense": 0.95,
            "4 bits": 0.9 if family == "vit" else 0.7,
            "pruned to 1/4": 0.8,
            "pruned to 1/8": 0.5 if family == "vit" else 0.75,
            "2 bits": 0.6 if family == "vit" else 0.5,
        }.get(name, 0.3)

    found = studies_with(specs, accuracy)
    for claim, verdict in (("quantize-rather-than-prune", "not seen"), ("prune-at-high-ratios", "reproduced")):
        judged = judge(claim, found)
        assert {part.verdict for part in judged.parts.values()} == {"reproduced", "not seen"} and judged.verdict == verdict
        assert {"not seen": "least", "reproduced": "most"}[verdict] + " favourable one decides" in judged.text


def test_a_family_counts_only_where_the_whole_network_is_worth_compressing(specs):
    def too_large(name, family, seed):
        return {"dense": 0.92, "dense, 1/2 width": 0.95 if family == "vit" else 0.9}.get(name, 0.5)

    narrow = studies_with(specs, too_large)
    short = studies_with(
        specs, lambda name, *_: {"dense": 0.92}.get(name, 0.5), lambda name, family, seed: 0.92 if family == "cnn" else 0.8
    )
    few = studies_with(specs, lambda name, family, seed: 0.35 if family == "vit" else {"dense": 0.92}.get(name, 0.5))
    for found, reason in ((narrow, "too large for its training"), (short, "still learning"), (few, "linear classifier")):
        parts = judge("quantize-rather-than-prune", found).parts
        assert reason in parts["transformer"].text and parts["residual network"].verdict != "not testable"
    for claim in ("scratch-as-good", "prune-and-quantize-free"):
        assert judge(claim, narrow).parts["transformer"].verdict == "not testable"


def test_what_the_claims_need(specs):
    """Of both families for what is compressed, and of transformers alone for the orders, which have no others."""
    good = studies_with(specs, lambda name, *_: {"dense": 0.95}.get(name, 0.9))
    orders = {name: good[name] for name in ("dense", "halves")} | {"orders": made(specs["orders"], lambda *_: 0.9)}
    for found in (good, orders):
        needs.dense_has_learnt(found)
        needs.whole_is_best(found)
        needs.whole_is_flat(found)

    def bad_transformers(name, family, seed):
        return (0.35 if name == "dense" else 0.5) if family == "vit" else {"dense": 0.95}.get(name, 0.9)

    bad = {
        "dense": made(specs["dense"], bad_transformers),
        "halves": made(specs["halves"], lambda name, family, _: 0.3 if family == "vit" else 0.95),
    }
    for need in (needs.dense_has_learnt, needs.whole_is_best, needs.whole_is_flat):
        need(good | bad)
    with pytest.raises(NotTestable, match="linear classifier"):
        needs.dense_has_learnt(orders | bad)
    with pytest.raises(NotTestable, match="too large for its training"):
        needs.whole_is_best(orders | bad)
    with pytest.raises(NotTestable, match="5.0 points, more than the 1"):
        needs.whole_is_flat(orders | bad)


def test_orders_are_judged_by_validation(specs):
    test = {("Prune", "Quantize", "Distil"): 0.6, ("Distil", "Prune", "Quantize"): 0.7, ("Quantize", "Prune", "Distil"): 0.9}
    runs = []
    for spec in specs["orders"]:
        kinds = tuple(type(stage).__name__ for stage in spec.stages)
        one = result(spec, test.get(kinds, 0.5))
        # the best on the test images is the worst on validation images, so it is never chosen
        runs.append(
            dataclasses.replace(one, metrics=one.metrics | {"val_accuracy": 0.1 if test.get(kinds) == 0.9 else test.get(kinds, 0.5)})
        )
    found = {"orders": Results(tuple(runs), ()), "dense": made(specs["dense"], lambda *_: 0.9)}
    assert reads("order-distil-last")(found) == pytest.approx([-0.1] * 2)
    assert reads("order-distil-first")(found) == pytest.approx([0.1] * 2)
    one = {study: Results(tuple(r for r in results if r.spec["seed"] == 0), ()) for study, results in found.items()}
    with pytest.raises(NotTestable, match="two seeds"):
        reads("order-distil-last")(one)


def test_claims_say_what_is_missing(specs):
    nothing = {study: Results((), tuple(Missing(spec, "not run") for spec in specs[study])) for study in ("dense", "compressed", "orders")}
    assert all("not run" in str(reason) for reason in reads("train-large-then-compress")(nothing).values())
    with pytest.raises(NotTestable, match="not run"):
        reads("order-distil-last")(nothing)
    for reason, accuracy, metrics in (("linear classifier", 0.1, {}), ("diverged", 0.9, {"diverged": True})):
        found = {
            study: made(specs[study], lambda *_, accuracy=accuracy: accuracy, **metrics) for study in ("dense", "compressed", "halves")
        }
        assert all(reason in str(told_) for told_ in reads("quantize-rather-than-prune")(found).values())
