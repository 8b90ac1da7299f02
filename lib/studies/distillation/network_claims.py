"""The values behind the distillation chapter's claims on DeiT and Switch's distillation, one value per seed.

Each function takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.needs import leaves_out_zero
from lib.studies.base.seeds import difference, tested
from lib.studies.distillation.names import method

Studies = Mapping[str, Results]


def by_seed(runs: Iterable[Result], name: str, value: Callable[[Result], float] = tested) -> dict[int, float]:
    """A value of the runs of this method, by seed."""
    return seeds.by_seed(runs, name, method, value)


# DeiT


def deit_gain(studies: Studies) -> list[float]:
    runs = studies["deit"]
    return difference(by_seed(runs, "hard labels"), by_seed(runs, "labels alone"), runs)


def hard_minus_soft(studies: Studies) -> list[float]:
    runs = studies["deit token"]
    return difference(by_seed(runs, "hard labels, no token"), by_seed(runs, "softened labels, no token"), runs)


def hard_minus_released_soft(studies: Studies) -> list[float]:
    runs = studies["deit token"]
    return difference(by_seed(runs, "hard labels, no token"), by_seed(runs, "softened labels, ÷ classes, no token"), runs)


def token_minus_none(studies: Studies) -> list[float]:
    runs, others = studies["deit"], studies["deit token"]
    return difference(by_seed(runs, "hard labels"), by_seed(others, "hard labels, no token"), runs, others)


def convolutional_minus_transformer(studies: Studies) -> list[float]:
    runs, others = studies["deit"], studies["deit teachers"]
    return difference(by_seed(runs, "hard labels"), by_seed(others, "hard labels, transformer teacher"), runs, others)


def last_similarity(studies: Studies) -> list[float]:
    found = list(by_seed(studies["deit"], "hard labels", lambda r: r.arrays["similarity_by_layer"][-1]).values())
    if not found:
        raise NotTestable(f"no network has both tokens{why(studies['deit'])}")
    return found


# Switch


def smallest_mixture(runs: Results) -> dict[int, float]:
    names = [method(r) for r in runs if r.experiment == "moe-vit" and r.spec["moe"]]
    if not names:
        raise NotTestable(f"there is no mixture of experts{why(runs)}")
    return by_seed(runs, names[0])


def dense(runs: Results, longest: bool) -> dict[int, float]:
    """The dense network trained as long as the mixture, or the one trained twice as long."""
    plain = [r for r in runs if r.experiment == "moe-vit" and not r.spec["moe"]]
    epochs = sorted({r.spec["recipe"]["epochs"] for r in plain})
    if len(epochs) < 2:
        raise NotTestable(f"there are not two dense networks to compare with{why(runs)}")
    chosen = epochs[-1] if longest else epochs[0]
    return seeds.each_seed((r for r in plain if r.spec["recipe"]["epochs"] == chosen), tested, "dense")


def share_of_gain_kept(studies: Studies) -> list[float]:
    """What the student keeps of the mixture's gain over a dense network trained as long as both together.

    The ratio of the means: each seed's part is divided by the mean gain, which must be above 0 for sure.
    """
    runs = studies["sparse"]
    base, teacher, student = dense(runs, longest=True), smallest_mixture(runs), by_seed(runs, "distilled")
    common = [seed for seed in student if seed in base and seed in teacher]
    if not common:
        raise NotTestable(f"no two runs of the same seed to compare{why(runs)}")
    gains = [teacher[seed] - base[seed] for seed in common]
    leaves_out_zero(gains, "the mixture's gain over a dense network trained as long as mixture and student together")
    whole = sum(gains) / len(gains)
    return [(student[seed] - base[seed]) / whole for seed in common]


def inherited_minus_fresh(studies: Studies) -> list[float]:
    runs, parts = studies["sparse"], studies["sparse parts"]
    return difference(by_seed(runs, "distilled"), by_seed(parts, "distilled, fresh weights"), runs, parts)


def distilled_minus_inherited_labels(studies: Studies) -> list[float]:
    runs, parts = studies["sparse"], studies["sparse parts"]
    return difference(by_seed(runs, "distilled"), by_seed(parts, "inherited weights, labels alone"), runs, parts)
