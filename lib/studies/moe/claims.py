"""The values behind the mixtures chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lib.measure.statistics import NotTestable, paired_differences, why
from lib.runs.results import Results
from lib.studies.base.elsewhere import chosen_elsewhere
from lib.studies.base.needs import leaves_out_zero
from lib.studies.base.seeds import by_seed, each_seed
from lib.studies.moe.names import method

Studies = Mapping[str, Results]

#: A run of fewer epochs cannot show that another gets as good in a part of them: rates fall to zero in its last epoch alone, and
#: whoever is ahead arrives there with it.
LEAST_EPOCHS = 8


# Picking runs out of a study


def called(runs: Results, name: str) -> Results:
    """Those whose :func:`~lib.studies.moe.names.method` is this name."""
    return Results(tuple(r for r in runs if method(r) == name), runs.missing)


def dense(runs: Results, pick: Callable = min) -> Results:
    """The dense baseline, with the shortest training where there are several, or with the longest: ``pick`` is max."""
    plain = called(runs, "dense")
    return plain.where(recipe__epochs=pick((r.fields["recipe.epochs"] for r in plain), default=None))


def longest_dense(runs: Results) -> Results:
    """As long as a teacher's and its student's together."""
    return dense(runs, max)


def largest(runs: Results) -> Results:
    """Those with the sweep's largest number of experts."""
    most = max((r.fields["moe.experts"] for r in runs), default=None)
    return runs.where(moe__experts=most)


def difference(first: Results, second: Results) -> list[float]:
    return paired_differences(first, second, "test_accuracy")


def epochs_saved(runs: Results, baseline: Results) -> list[float]:
    """The baseline's epochs over the first epoch in which the run reaches the baseline's final accuracy; 0 if never.

    NotTestable where the baseline has fewer than :data:`LEAST_EPOCHS`.
    """
    theirs = each_seed(baseline, lambda r: r)
    if theirs and max(len(r.curves["val_accuracy"]) for r in theirs.values()) < LEAST_EPOCHS:
        raise NotTestable(
            f"a saving of epochs cannot be seen in a run of fewer than {LEAST_EPOCHS}: its learning rate falls to zero in the last one alone"
        )
    pairs = [(r, theirs[r.fields["seed"]]) for r in runs if r.fields["seed"] in theirs]
    if not pairs:
        raise NotTestable("no two runs of the same seed to compare")
    return [saved(run.curves["val_accuracy"], base.curves["val_accuracy"]) for run, base in pairs]


def saved(curve: list[float], base: list[float]) -> float:
    reached = next((epoch for epoch, value in enumerate(curve, 1) if value is not None and value >= base[-1]), None)
    return len(base) / reached if reached else 0.0


def after_first_epoch(runs: Results) -> dict[int, float]:
    return each_seed(runs, lambda r: r.curves["val_accuracy"][0])


# Switch


def switch_steps_saved(studies: Studies) -> list[float]:
    runs = studies["accuracy"]
    return epochs_saved(largest(called(runs, "switch")), dense(runs))


def small_init_deviation_difference(studies: Studies) -> list[float]:
    runs = called(studies["initialisation"], "switch").where(moe__jitter=0)
    small, standard = (after_first_epoch(runs.where(moe__router_init=scale)) for scale in (0.1, 1))
    both = [seed for seed in small if seed in standard]
    if len(both) < 3:  # two seeds lie equally far from their mean: the differences would have no spread at all
        raise NotTestable("a spread between seeds needs at least three seeds")

    def deviations(found: dict[int, float]) -> np.ndarray:
        values = np.array([found[seed] for seed in both])
        return np.abs(values - values.mean())

    return list(deviations(small) - deviations(standard))


def distilled_share_of_gain(studies: Studies) -> list[float]:
    runs = studies["distillation"]
    base = longest_dense(runs)
    students, switch = called(runs, "distillation from Switch"), called(runs, "switch")
    gain = dict(zip(seeds_in_both(switch, base), difference(switch, base)))
    kept = dict(zip(seeds_in_both(students, base), difference(students, base)))
    both = [seed for seed in kept if seed in gain]
    if not both:
        raise NotTestable("no two runs of the same seed to compare")
    leaves_out_zero(
        [gain[seed] for seed in both], "what the mixture gains over a dense model trained as long as teacher and student together"
    )
    # The ratio of the means: seeds are averaged before anything is divided.
    whole = float(np.mean([gain[seed] for seed in both]))
    return [kept[seed] / whole for seed in both]


def seeds_in_both(first: Results, second: Results) -> list[int]:
    """Seeds in the order in which :func:`lib.measure.statistics.paired` pairs them."""
    other = {r.fields["seed"] for r in second}
    return [r.fields["seed"] for r in first if r.fields["seed"] in other]


# Expert choice


def expert_choice_steps_saved(studies: Studies) -> list[float]:
    runs = studies["routers"]
    return epochs_saved(called(runs, "expert-choice"), called(runs, "switch"))


# Soft MoE and hash layers


def soft_minus_best_token_choice(studies: Studies) -> list[float]:
    runs = studies["routers"]
    candidates = {
        name: each_seed(found, lambda r: (r.metrics["val_accuracy"], r.metrics["test_accuracy"]), name)
        for name in ("switch", "vmoe", "bias")
        if (found := called(runs, name))
    }
    best, soft = chosen_elsewhere(candidates), by_seed(runs, "soft", method, lambda r: r.metrics["test_accuracy"])
    return [soft[seed] - value for seed, value in best.items() if seed in soft]
