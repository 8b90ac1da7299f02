"""The values behind chapter 4's claims: one function per claim of ``data/claims.yml``, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.experiments.pruning_names import OURS, method
from lib.results import Result, Results
from lib.statistics import NotTestable, why

Studies = Mapping[str, Results]
BySeed = dict[int, float]

TEST = "test_accuracy"

#: The share of the weights at which tickets are judged, and how much more may be left where no level meets it.
FIFTH, SLACK = 0.2, 0.01

#: LeNet's share of weights in the paper's statement on speed.
LENET_SHARE = 0.21

#: The compression at which the SynFlow paper's magnitude pruning collapses.
COLLAPSE = 316.0

#: The share of the weights that a coarse ticket must have lost.
REMOVED = 0.3

#: A network that is right less often than this has learnt too little for what is lost of it to mean anything.
LEAST_ACCURACY = 0.3

#: Weights of the network that ElasticTrain's table is about, and the training images that it had.
VGG16_WEIGHTS, CIFAR_IMAGES = 14_715_584, 45_000


def by_seed(runs: Iterable[Result], name: str, value=lambda r: r.metrics.get(TEST)) -> BySeed:
    """A value of the runs of this name, by seed; runs without one are left out."""
    found = {r.fields["seed"]: value(r) for r in runs if method(r) == name}
    return {seed: number for seed, number in found.items() if number is not None}


def difference(first: BySeed, second: BySeed, *runs: Results) -> list[float]:
    return [a - b for a, b in paired(first, second, *runs)]


def paired(first: BySeed, second: BySeed, *runs: Results) -> list[tuple[float, float]]:
    found = [(value, second[seed]) for seed, value in first.items() if seed in second]
    if not found:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return found


def deviation(values: Iterable[float], of: str) -> float:
    """The standard deviation over seeds."""
    values = list(values)
    if len(values) < 2:
        raise NotTestable(f"{of} ran with fewer than two seeds, so it has no standard deviation")
    return max(float(np.std(values, ddof=1)), 1e-9)


# Tickets

def place(run: Result, density: float) -> int:
    """The first of a run's levels with at most this share of the weights, else its last."""
    fit = [i for i, found in enumerate(run.curves["density"]) if found <= density + SLACK]
    return fit[0] if fit else len(run.curves["density"]) - 1


def at_level(runs: Iterable[Result], name: str, level: int, value: str = TEST) -> BySeed:
    found = {r.fields["seed"]: dict(zip(r.curves["level"], r.curves[value])).get(level) for r in runs if method(r) == name}
    return {seed: number for seed, number in found.items() if number is not None}


def of_kind(runs: Results, experiment: str, **fields) -> list[Result]:
    return [r for r in runs if r.experiment == experiment and all(r.fields.get(n.replace("__", ".")) == v for n, v in fields.items())]


def tickets_at(studies: Studies, late: bool, warm: bool = False) -> list[Result]:
    """Rewound tickets of the residual network: to the latest step tried or to step 0, with a warm-up or without."""
    runs = [r for r in of_kind(studies["tickets"], "pruning-tickets") if bool(r.spec["parent"]["recipe"]["warmup"]) == warm]
    steps = sorted({r.spec["rewind"] for r in runs})
    if not steps or (late and steps[-1] == 0) or (not late and steps[0] != 0):
        raise NotTestable(f"there is no ticket {'at a later step' if late else 'at step 0'}{' with a warm-up' if warm else ''}"
                          f"{why(studies['tickets'])}")
    return [r for r in runs if r.spec["rewind"] == (steps[-1] if late else 0)]


def dense_of(studies: Studies, warm: bool) -> BySeed:
    found = {r.fields["seed"]: r.metrics[TEST] for r in of_kind(studies["tickets"], "pruning-dense")
             if bool(r.spec["recipe"]["warmup"]) == warm}
    if not found:
        raise NotTestable(f"there is no dense network to compare with{why(studies['tickets'])}")
    if np.mean(list(found.values())) < LEAST_ACCURACY:
        raise NotTestable(f"the dense network is right in less than {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
    return found


def ticket_minus_dense_in_deviations(studies: Studies) -> list[float]:
    dense = dense_of(studies, warm=False)
    spread, mean = deviation(dense.values(), "the dense network"), np.mean(list(dense.values()))
    return [float((r.curves[TEST][place(r, FIFTH)] - mean) / spread) for r in tickets_at(studies, late=True)]


def minus_reinitialised(studies: Studies, late: bool) -> list[float]:
    own, others = tickets_at(studies, late), studies["controls"]
    level = own[0].curves["level"][place(own[0], FIFTH)]
    name = method(own[0])
    other = "re-initialised" + name.removeprefix("ticket")
    levels = {found for r in others if method(r) == other for found in r.curves["level"]}
    if level not in levels and levels:
        level = max(levels)   # controls are trained at the last level, whichever that is
    return difference(at_level(own, name, level), at_level(others, other, level), studies["tickets"], others)


def ticket_minus_reinitialised(studies: Studies) -> list[float]:
    dense_of(studies, warm=False)
    return minus_reinitialised(studies, late=True)


def ticket_at_start_minus_reinitialised(studies: Studies) -> list[float]:
    dense_of(studies, warm=False)
    return minus_reinitialised(studies, late=False)


def warmup_gain_of_the_ticket(studies: Studies) -> list[float]:
    """What the warm-up does for the ticket, less what it does for the dense network."""
    warm, cold = tickets_at(studies, late=False, warm=True), tickets_at(studies, late=False)
    last = cold[0].curves["level"][place(cold[0], FIFTH)]
    loss = {}
    for name, runs in (("warm", warm), ("cold", cold)):
        dense = dense_of(studies, warm=name == "warm")
        at = at_level(runs, method(runs[0]), last)
        loss[name] = {seed: value - dense[seed] for seed, value in at.items() if seed in dense}
    return difference(loss["warm"], loss["cold"], studies["tickets"])


def global_minus_layerwise(studies: Studies) -> list[float]:
    late = tickets_at(studies, late=True)
    name = method(late[0])
    return difference(by_seed(late, name), by_seed(studies["controls"], f"{name}, layer-wise"), studies["tickets"], studies["controls"])


def speed_over_reinitialised(studies: Studies) -> list[float]:
    runs = studies["lenet"]
    controls = of_kind(runs, "pruning-controls", control="reinitialised")
    levels = [(level, share) for r in controls[:1] for level, share in zip(r.curves["level"], r.curves["density"])]
    if not levels:
        raise NotTestable(f"there is no re-initialised LeNet{why(runs)}")
    level = min(levels, key=lambda found: abs(np.log(found[1] / LENET_SHARE)))[0]
    own = at_level(runs, "ticket, step 0", level, "stop_step")
    return [b / a for a, b in paired(own, at_level(runs, "re-initialised, step 0", level, "stop_step"), runs)]


def iterative_minus_one_shot(studies: Studies) -> list[float]:
    runs = studies["lenet"]
    return difference(by_seed(runs, "ticket, step 0"), by_seed(runs, "ticket, step 0, one cut"), runs)


def rate_rewinding_minus_tuning(studies: Studies) -> list[float]:
    runs = studies["shot"]
    return difference(by_seed(runs, "rate rewound"), by_seed(runs, "fine-tuned"), runs)


def rate_minus_weight_rewinding(studies: Studies) -> list[float]:
    late = tickets_at(studies, late=True)
    return difference(by_seed(studies["shot"], "rate rewound"), by_seed(late, method(late[0])), studies["shot"], studies["tickets"])


# Pruning before and while training

def at_ratio(runs: Results, name: str, ratio: float) -> BySeed:
    found = [r for r in runs if abs(r.spec["density"] * ratio - 1) < 0.02]
    return by_seed(found, name)


def synflow_minus_magnitude(studies: Studies) -> list[float]:
    runs = studies["init"]
    if not any(abs(r.spec["density"] * COLLAPSE - 1) < 0.02 for r in runs):
        raise NotTestable(f"no network was pruned to {COLLAPSE:.0f}× before training{why(runs)}")
    return difference(at_ratio(runs, "SynFlow", COLLAPSE), at_ratio(runs, "magnitude", COLLAPSE), runs)


def synflow_collapses(studies: Studies) -> list[float]:
    runs = [r for r in studies["init"] if method(r) == "SynFlow"]
    return [float(sum(r.metrics["collapsed"] for r in runs if r.fields["seed"] == seed)) for seed in sorted({r.fields["seed"] for r in runs})]


def granet_minus_gradual(studies: Studies) -> list[float]:
    runs = studies["trainers"]
    return difference(by_seed(runs, "GraNet"), by_seed(runs, "gradual"), runs)


# ElasticTrain's table

def row(studies: Studies, ratio: float, shape: str = "unstructured") -> list[float]:
    """Test accuracies of our recipe on the network of the table."""
    runs = [r for r in studies["ratios"] if method(r).startswith(OURS) and r.spec["plan"]["structure"] == shape
            and abs(r.spec["plan"]["density"] * ratio - 1) < 0.02]
    if not runs:
        raise NotTestable(f"nothing was pruned to {ratio:g}× in the structure {shape!r}{why(studies['ratios'])}")
    return [r.metrics[TEST] for r in runs if same_network(r)]


def same_network(run: Result) -> bool:
    """True for the table's network and images; raises NotTestable otherwise: an accuracy of another network decides nothing."""
    data, weights = run.provenance.get("data", {}), run.metrics["all_weights"]
    if weights != VGG16_WEIGHTS or data.get("name") != "cifar10" or data.get("train", 0) < CIFAR_IMAGES:
        raise NotTestable(f"the row is about VGG-16 with {VGG16_WEIGHTS:,} weights and all of CIFAR-10; this run has {weights:,} weights and "
                          f"{data.get('train', 0):,} images of {data.get('name', 'none')}")
    return True


def unstructured_at_50(studies: Studies) -> list[float]:
    return row(studies, 50)


def unstructured_at_500(studies: Studies) -> list[float]:
    return row(studies, 500)


def unstructured_at_1000(studies: Studies) -> list[float]:
    return row(studies, 1000)


def kernel_at_100(studies: Studies) -> list[float]:
    return row(studies, 100, "kernel")


def kernel_at_500(studies: Studies) -> list[float]:
    return row(studies, 500, "kernel")


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
    if np.mean([r.metrics["dense_test_accuracy"] for r in found.values()]) < LEAST_ACCURACY:
        raise NotTestable(f"the dense network is right in less than {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
    return found


def refill_minus_dense(studies: Studies) -> list[float]:
    return [r.metrics[TEST] - r.metrics["dense_test_accuracy"] for r in coarse(studies, "refill").values()]


def refill_minus_channels(studies: Studies) -> list[float]:
    refilled, direct = ({seed: r.metrics[TEST] for seed, r in coarse(studies, form).items()} for form in ("refill", "channels"))
    return difference(refilled, direct, studies["coarsening"])


def dense_over_removed_time(studies: Studies) -> list[float]:
    return [1 / r.metrics["small_ratio"] for r in coarse(studies, "refill").values()]


# Sparse Cocktail

MERGED, LAST = "test_accuracy_merged", "test_accuracy_last"


def pivot_gain_in_deviations(studies: Studies) -> list[float]:
    runs = studies["cocktail"]
    with_, without = (by_seed(runs, f"{which} dense steps", lambda r: r.metrics[MERGED]) for which in ("with", "without"))
    spread = deviation(without.values(), "the training without dense steps")
    return [value / spread for value in difference(with_, without, runs)]


def merging_gain(studies: Studies) -> list[float]:
    found = [r.metrics[MERGED] - r.metrics[LAST] for r in studies["cocktail"] if r.spec["pivot"]]
    if not found:
        raise NotTestable(f"nothing was merged{why(studies['cocktail'])}")
    return found


# MetaPruning

def searched_minus_uniform_in_deviations(studies: Studies) -> list[float]:
    runs = studies["meta"]
    spread = deviation([r.metrics["uniform_test_accuracy"] for r in runs], "the network with uniform widths")
    return [(r.metrics["winner_test_accuracy"] - r.metrics["uniform_test_accuracy"]) / spread for r in runs]


def rank_correlation(studies: Studies) -> list[float]:
    found = [r.metrics["rank_correlation"] for r in studies["meta"] if r.metrics["rank_correlation"] is not None]
    if not found:
        raise NotTestable(f"fewer than three networks of different accuracy were trained from scratch{why(studies['meta'])}")
    return found


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
            best[r.fields["seed"]] = max(found, best.get(r.fields["seed"], found))
    if not best:
        raise NotTestable(f"no file is {least:,.0f} times smaller; the smallest is {max(r.metrics[ratio] for r in files(studies)):,.0f} times")
    return [tested for _, tested in best.values()]


def file_2000_times_smaller(studies: Studies) -> list[float]:
    return small_files(studies, "file_ratio", 2000)


def weights_2500_times_smaller(studies: Studies) -> list[float]:
    return small_files(studies, "weights_ratio", 2500)


def coded(studies: Studies, bits: int, grid: tuple[int, int]) -> dict[int, Result]:
    """The smallest file of each seed with these codes for weights, and norms as they are."""
    runs = [r for r in files(studies) if r.spec["parent"].get("bits") == bits and tuple(r.spec["parent"]["grid"]) == grid
            and r.spec["norm_bits"] is None]
    return {r.fields["seed"]: r for r in sorted(runs, key=lambda r: -r.metrics["bytes"])}


def real_over_claimed(studies: Studies) -> list[float]:
    found = coded(studies, 4, (1, 1))
    if not found:
        raise NotTestable("no file with 4-bit codes and one codebook a layer was written")
    return [r.metrics["file_ratio"] / r.metrics["claimed_ratio"] for r in found.values()]


def one_codebook_over_many(studies: Studies) -> list[float]:
    one, many = ({seed: r.metrics["bytes"] for seed, r in coded(studies, bits, grid).items()} for bits, grid in ((4, (1, 1)), (2, (16, 4))))
    return [a / b for a, b in paired(one, many, files(studies))]


# Stability

def barrier(studies: Studies, late: bool) -> BySeed:
    """Of the sparse network, trained twice from the latest step, or from step 0, without a warm-up."""
    runs = [r for r in studies["barrier"] if r.spec["level"] and not r.spec["parent"]["parent"]["recipe"]["warmup"]]
    steps = sorted({r.spec["parent"]["rewind"] for r in runs})
    if not steps or (late and steps[-1] == 0) or (not late and steps[0] != 0):
        raise NotTestable(f"no sparse network was trained twice from {'a later step' if late else 'step 0'}{why(studies['barrier'])}")
    return {r.fields["seed"]: r.metrics["test_barrier"] for r in runs if r.spec["parent"]["rewind"] == (steps[-1] if late else 0)}


def barrier_of_late_ticket(studies: Studies) -> list[float]:
    return list(barrier(studies, late=True).values())


def barrier_at_start_minus_late(studies: Studies) -> list[float]:
    return difference(barrier(studies, late=False), barrier(studies, late=True), studies["barrier"])
