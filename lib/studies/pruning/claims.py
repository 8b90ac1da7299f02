"""The values behind the pruning chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.  Those on tickets are in
:mod:`lib.studies.pruning.ticket_claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.pruning.names import OURS, method
from lib.studies.pruning.pairs import TEST, BySeed, by_seed, difference, learnt, paired
from lib.studies.pruning.ticket_claims import (
    barrier_at_start_minus_late,
    barrier_of_late_ticket,
    global_minus_layerwise,
    minus_reinitialised,
    rate_minus_weight_rewinding,
    rate_rewinding_minus_tuning,
    speed_over_reinitialised,
    ticket_minus_dense,
    warmup_gain_of_the_ticket,
)

Studies = Mapping[str, Results]

#: The compression at which the SynFlow paper's magnitude pruning collapses.
COLLAPSE = 316.0

#: The share of the weights that a coarse ticket must have lost.
REMOVED = 0.3

#: Weights of the network that ElasticTrain's table is about, and the training images that it had.
VGG16_WEIGHTS, CIFAR_IMAGES = 14_715_584, 45_000


# Pruning before and while training


def at_ratio(runs: Results, name: str, ratio: float) -> BySeed:
    found = [r for r in runs if abs(r.spec["density"] * ratio - 1) < 0.02]
    return by_seed(found, name)


def synflow_minus_magnitude(studies: Studies) -> list[float]:
    """Of the official network's weights: with ours, magnitude empties the head alone, and long before."""
    runs = studies["official init"]
    if not len(runs):
        raise NotTestable(f"no network was pruned with the official weights, on which collapse depends{why(runs)}")
    if not any(abs(r.spec["density"] * COLLAPSE - 1) < 0.02 for r in runs):
        raise NotTestable(f"no network was pruned to {COLLAPSE:.0f}× before training{why(runs)}")
    return difference(at_ratio(runs, "SynFlow, official weights", COLLAPSE), at_ratio(runs, "magnitude, official weights", COLLAPSE), runs)


def synflow_collapses(studies: Studies) -> list[float]:
    runs = [r for r in studies["init"] if method(r) == "SynFlow"]
    possible = [r for r in runs if r.metrics["weights"] >= len(r.arrays["weights_by_layer"])]
    if not possible:
        raise NotTestable(f"nowhere were enough weights left for one in each layer{why(studies['init'])}")
    seeds = sorted({r.fields["seed"] for r in possible})
    return [float(sum(r.metrics["collapsed"] for r in possible if r.fields["seed"] == seed)) for seed in seeds]


# ElasticTrain's table


def row(studies: Studies, ratio: float, shape: str = "unstructured") -> list[float]:
    """Test accuracies of our recipe on the network of the table."""
    runs = [
        r
        for r in studies["ratios"]
        if method(r).startswith(OURS) and r.spec["plan"]["structure"] == shape and abs(r.spec["plan"]["density"] * ratio - 1) < 0.02
    ]
    if not runs:
        raise NotTestable(f"nothing was pruned to {ratio:g}× in the structure {shape!r}{why(studies['ratios'])}")
    return [r.metrics[TEST] for r in runs if same_network(r)]


def same_network(run: Result) -> bool:
    """True for the table's network and images; raises NotTestable otherwise: another network's accuracy decides nothing."""
    data, weights = run.provenance.get("data", {}), run.metrics["all_weights"]
    if weights != VGG16_WEIGHTS or data.get("name") != "cifar10" or data.get("train", 0) < CIFAR_IMAGES:
        raise NotTestable(
            f"the row is about VGG-16 with {VGG16_WEIGHTS:,} weights and all of CIFAR-10; this run has "
            f"{weights:,} weights and {data.get('train', 0):,} images of {data.get('name', 'none')}"
        )
    return True


# Coarse tickets


def coarse(studies: Studies, form: str) -> dict[int, Result]:
    """Of each seed the first level at which refilling has removed enough, in this form."""
    runs = studies["coarsening"]
    found = {}
    for seed in sorted({r.fields["seed"] for r in runs}):
        own = [r for r in runs if r.fields["seed"] == seed]
        reached = [r.metrics["level"] for r in own if r.spec["form"] == "refill" and r.metrics["density"] <= 1 - REMOVED]
        level = min(reached, default=None)
        found |= {seed: r for r in own if r.spec["form"] == form and r.metrics["level"] == level}
    if not found:
        raise NotTestable(f"no refilled network has lost {REMOVED:.0%} of its weights{why(runs)}")
    learnt(r.metrics["dense_test_accuracy"] for r in found.values())
    return found


def refill_minus_dense(studies: Studies) -> list[float]:
    return [r.metrics[TEST] - r.metrics["dense_test_accuracy"] for r in coarse(studies, "refill").values()]


def refill_minus_channels(studies: Studies) -> list[float]:
    refilled, direct = ({seed: r.metrics[TEST] for seed, r in coarse(studies, form).items()} for form in ("refill", "channels"))
    return difference(refilled, direct, studies["coarsening"])


def dense_over_removed_time(studies: Studies) -> list[float]:
    return [1 / r.metrics["small_ratio"] for r in coarse(studies, "refill").values()]


# Files


def files(studies: Studies) -> Results:
    runs = studies["files"]
    if not len(runs):
        raise NotTestable(f"no file was written{why(runs)}")
    return runs


def small_files(studies: Studies, ratio: str, least: float) -> list[float]:
    """Test accuracy of the best of each seed's files that are small enough, chosen on validation images."""
    best: dict[int, tuple[float, float]] = {}
    for r in files(studies):
        if r.metrics[ratio] >= least and same_network(r):
            found = (r.metrics["val_accuracy"], r.metrics[TEST])
            best[r.fields["seed"]] = max(best.get(r.fields["seed"], found), found, key=itemgetter(0))
    if not best:
        smallest = max(r.metrics[ratio] for r in files(studies))
        raise NotTestable(f"no file is {least:,.0f} times smaller; the smallest is {smallest:,.0f} times")
    return [tested for _, tested in best.values()]


def coded(studies: Studies, bits: int, grid: tuple[int, int]) -> dict[int, Result]:
    """The smallest file of each seed with these codes for weights, and norms as they are, of the table's network."""
    runs = [
        r
        for r in files(studies)
        if r.spec["parent"].get("bits") == bits
        and tuple(r.spec["parent"]["grid"]) == grid
        and r.spec["norm_bits"] is None
        and same_network(r)
    ]
    return {r.fields["seed"]: r for r in sorted(runs, key=lambda r: -r.metrics["bytes"])}


def real_over_claimed(studies: Studies) -> list[float]:
    found = coded(studies, 4, (1, 1))
    if not found:
        raise NotTestable("no file with 4-bit codes and one codebook a layer was written")
    return [r.metrics["file_ratio"] / r.metrics["claimed_ratio"] for r in found.values()]


def one_codebook_over_many(studies: Studies) -> list[float]:
    one, many = ({seed: r.metrics["bytes"] for seed, r in coded(studies, bits, grid).items()} for bits, grid in ((4, (1, 1)), (2, (16, 4))))
    return [a / b for a, b in paired(one, many, files(studies))]
