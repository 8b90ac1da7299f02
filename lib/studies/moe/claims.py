"""The values behind the mixtures chapter's claims: one function per claim of ``data/claims.yml``, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.measure.statistics import NotTestable, paired_differences, why
from lib.runs.results import Results
from lib.studies.base.elsewhere import chosen_elsewhere
from lib.studies.base.needs import leaves_out_zero
from lib.studies.base.seeds import by_seed, each_seed
from lib.studies.moe.names import method

Studies = Mapping[str, Results]

#: A run of fewer epochs cannot show a saving of 7.5 times.
LEAST_EPOCHS = 8


# Picking runs out of a study


def dense(runs: Results) -> Results:
    """The dense baseline: no experts, no teacher, and the shortest training where there are several."""
    plain = [r for r in runs if r.spec.get("moe") is None and r.spec.get("teacher") is None]
    shortest = min((r.fields["recipe.epochs"] for r in plain), default=None)
    return Results(tuple(r for r in plain if r.fields["recipe.epochs"] == shortest), runs.missing)


def longest_dense(runs: Results) -> Results:
    """Dense runs with the longest training: as long as a teacher's and its student's together."""
    plain = [r for r in runs if r.spec.get("moe") is None and r.spec.get("teacher") is None]
    longest = max((r.fields["recipe.epochs"] for r in plain), default=None)
    return Results(tuple(r for r in plain if r.fields["recipe.epochs"] == longest), runs.missing)


def switch(runs: Results, **fields) -> Results:
    """Switch runs as the library configures them, except for the fields named."""
    usual = {
        "moe.router": "switch",
        "moe.k": 1,
        "moe.split": 1,
        "moe.placement": "every-second",
        "moe.balance": 0.01,
        "moe.z_loss": 0.0,
        "moe.policy": "dropless",
        "moe.router_precision": "fp32",
        "moe.router_init": 0.1,
        "moe.jitter": 0.0,
        "moe.single_gate": "probability",
    }
    wanted = usual | {f"moe.{name}": value for name, value in fields.items()}
    # Results that are older than a field have what it defaults to.
    return Results(
        tuple(r for r in runs if r.fields.get("moe.router") and all(r.fields.get(n, usual.get(n)) == v for n, v in wanted.items())),
        runs.missing,
    )


def routed(runs: Results, router: str, **fields) -> Results:
    return runs.where(moe__router=router, **fields)


def largest(runs: Results) -> Results:
    """Those with the sweep's largest number of experts."""
    most = max((r.fields["moe.experts"] for r in runs), default=None)
    return runs.where(moe__experts=most)


def difference(first: Results, second: Results, metric: str = "test_accuracy") -> list[float]:
    return paired_differences(first, second, metric)


def epochs_saved(runs: Results, baseline: Results) -> list[float]:
    """The baseline's epochs over the first epoch in which the run reaches the baseline's final accuracy; 0 if never."""
    theirs = each_seed(baseline, lambda r: r)
    pairs = [(r, theirs[r.fields["seed"]]) for r in runs if r.fields["seed"] in theirs]
    if not pairs:
        raise NotTestable("no two runs of the same seed to compare")
    return [saved(run.curves["val_accuracy"], base.curves["val_accuracy"]) for run, base in pairs]


def saved(curve: list[float], base: list[float]) -> float:
    reached = next((epoch for epoch, value in enumerate(curve, 1) if value is not None and value >= base[-1]), None)
    return len(base) / reached if reached else 0.0


def after_first_epoch(runs: Results) -> dict[int, float]:
    return by_seed(runs, "all of these", lambda r: "all of these", lambda r: r.curves["val_accuracy"][0])


# Switch


def switch_minus_dense(studies: Studies) -> list[float]:
    runs = studies["accuracy"]
    return difference(largest(switch(runs)), dense(runs))


def switch_steps_saved(studies: Studies) -> list[float]:
    runs = studies["accuracy"]
    base = dense(runs)
    if base and max(len(r.curves["val_accuracy"]) for r in base) < LEAST_EPOCHS:
        raise NotTestable(f"7.5 times fewer epochs cannot be seen in a run of fewer than {LEAST_EPOCHS}")
    return epochs_saved(largest(switch(runs)), base)


def switch_step_ratio(studies: Studies) -> list[float]:
    timed = largest(studies["steps"].where(moe__backend="auto"))
    if not timed:
        raise NotTestable("no training step was timed")
    return [r.metrics["train_ratio"] for r in timed]


def fp32_router_minus_bf16_router(studies: Studies) -> list[float]:
    runs = studies["precision"]
    return difference(switch(runs), switch(runs, router_precision="bf16"))


def small_init_minus_standard(studies: Studies) -> list[float]:
    runs = studies["initialisation"]
    small, standard = after_first_epoch(switch(runs)), after_first_epoch(switch(runs, router_init=1.0))
    both = [seed for seed in small if seed in standard]
    if not both:
        raise NotTestable("no two runs of the same seed to compare")
    return [small[seed] - standard[seed] for seed in both]


def small_init_deviation_difference(studies: Studies) -> list[float]:
    runs = studies["initialisation"]
    small, standard = after_first_epoch(switch(runs)), after_first_epoch(switch(runs, router_init=1.0))
    both = [seed for seed in small if seed in standard]
    if len(both) < 3:  # two seeds lie equally far from their mean: the differences would have no spread at all
        raise NotTestable("a spread between seeds needs at least three seeds")

    def deviations(found: dict[int, float]) -> np.ndarray:
        values = np.array([found[seed] for seed in both])
        return np.abs(values - values.mean())

    return list(deviations(small) - deviations(standard))


def dropped_at_usual_capacity(studies: Studies) -> list[float]:
    """Share of the tokens that are dropped in the last epoch at a capacity factor of 1.25."""
    return [r.curves["dropped"][-1] for r in switch(studies["capacity"], policy="arrival", capacity_factor=1.25)]


def balance_loss_cost(studies: Studies) -> list[float]:
    runs = studies["balance"]
    return difference(switch(runs), switch(runs, balance=0.0))


def low_capacity_minus_high(studies: Studies) -> list[float]:
    runs = studies["capacity"]
    return difference(switch(runs, policy="arrival", capacity_factor=1.0), switch(runs, policy="arrival", capacity_factor=2.0))


def distilled_share_of_gain(studies: Studies) -> list[float]:
    runs, base = studies["distillation"], longest_dense(studies["accuracy"])
    students = Results(tuple(r for r in runs if r.spec.get("teacher")), runs.missing)
    gain = dict(zip(seeds_in_both(switch(runs), base), difference(switch(runs), base)))
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


# V-MoE


def priority_minus_arrival(studies: Studies) -> list[float]:
    return [r.metrics["test_accuracy_priority_0.5"] - r.metrics["test_accuracy_arrival_0.5"] for r in limited(studies)]


def priority_minus_dropless(studies: Studies) -> list[float]:
    return [r.metrics["test_accuracy_priority_0.5"] - r.metrics["test_accuracy_dropless"] for r in limited(studies)]


def limited(studies: Studies) -> Results:
    """V-MoE's networks with places missing at inference, as in the paper."""
    if not len(runs := studies["inference"]):
        raise NotTestable(f"no network was evaluated with places missing at inference, which the paper does{why(runs)}")
    return runs


# Loss-free balancing


def bias_minus_loss_violation(studies: Studies) -> list[float]:
    runs = studies["balance"]
    return difference(routed(runs, "bias"), switch(runs), "max_load")


def bias_minus_loss_accuracy(studies: Studies) -> list[float]:
    """Both with softmax scores: with a sigmoid the difference would be the gate's as well."""
    alike = routed(studies["gates"], "bias", moe__scores="softmax")
    if not alike:
        raise NotTestable(f"no router with biases has the gate of the one with a loss{why(studies['gates'])}")
    return difference(alike, switch(studies["balance"]))


# Expert choice


def expert_choice_max_load(studies: Studies) -> list[float]:
    return [r.metrics["max_load"] for r in routed(studies["routers"], "expert-choice")]


def expert_choice_steps_saved(studies: Studies) -> list[float]:
    runs = studies["routers"]
    return epochs_saved(routed(runs, "expert-choice"), switch(runs))


# Soft MoE and hash layers


def soft_minus_best_token_choice(studies: Studies) -> list[float]:
    runs = studies["routers"]
    candidates = {
        name: each_seed(found, lambda r: (r.metrics["val_accuracy"], r.metrics["test_accuracy"]), name)
        for name, found in (("switch", switch(runs)), ("vmoe", routed(runs, "vmoe")), ("bias", routed(runs, "bias")))
        if found
    }
    best, soft = chosen_elsewhere(candidates), by_seed(runs, "soft", method, lambda r: r.metrics["test_accuracy"])
    return [soft[seed] - value for seed, value in best.items() if seed in soft]


def soft_minus_dense(studies: Studies) -> list[float]:
    runs = studies["routers"]
    return difference(routed(runs, "soft"), dense(runs))


def hash_minus_switch(studies: Studies) -> list[float]:
    """By patch: by position, with as many experts as places, each place would own a network."""
    runs = studies["gates"]
    by_patch = routed(runs, "hash", moe__hash_by="patch")
    if not by_patch:
        raise NotTestable(f"no table of patches was tried, only one of positions, where each place owns a network{why(runs)}")
    return difference(by_patch, switch(runs, single_gate="share"))


# Random routing


def random_minus_switch(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(routed(runs, "thor", consistency=False), switch(runs))


def thor_minus_switch(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(routed(runs, "thor", consistency=True), switch(runs))


def thor_consistency_gain(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(routed(runs, "thor", consistency=True), routed(runs, "thor", consistency=False))


def adamix_merged_minus_first(studies: Studies) -> list[float]:
    runs = routed(studies["random"], "adamix", consistency=True)
    return [r.metrics["val_accuracy_merged_uniform"] - r.metrics["val_accuracy_first_expert"] for r in runs]


def adamix_consistency_gain(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(routed(runs, "adamix", consistency=True), routed(runs, "adamix", consistency=False))


# Expert weight averaging


def ewa(runs: Results) -> Results:
    return Results(tuple(r for r in routed(runs, "partition") if r.fields["ewa_beta"] > 0), runs.missing)


def ewa_merged_minus_dense(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(ewa(runs), dense(runs))


def ewa_averaging_gain(studies: Studies) -> list[float]:
    runs = studies["random"]
    return difference(ewa(runs), routed(runs, "partition", ewa_beta=0.0), "val_accuracy_merged_uniform")


# DeepSeekMoE


def fine_grained_shared_minus_top2(studies: Studies) -> list[float]:
    runs = studies["design"]
    return difference(switch(runs, k=2, split=2, shared=1), switch(runs, k=2, split=1))


# The Switch-ViT project


def loop_ratio(studies: Studies, experts: int) -> list[float]:
    timed = studies["steps"].where(geometry="switch-vit", moe__backend="loop", moe__experts=experts)
    if not timed:
        raise NotTestable("the Switch-ViT geometry was not timed here; the gpu scale does it")
    return [r.metrics["train_ratio"] for r in timed]


def switch_vit_loop_ratio_32(studies: Studies) -> list[float]:
    return loop_ratio(studies, 32)


def switch_vit_loop_ratio_64(studies: Studies) -> list[float]:
    return loop_ratio(studies, 64)
