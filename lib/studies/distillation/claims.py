"""The values behind the distillation chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each function takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.needs import leaves_out_zero
from lib.studies.base.seeds import tested
from lib.studies.distillation.names import method

Studies = Mapping[str, Results]


def by_seed(runs: Iterable[Result], name: str, value: Callable[[Result], float] = tested) -> dict[int, float]:
    """A value of the runs of this method, by seed."""
    return seeds.by_seed(runs, name, method, value)


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
