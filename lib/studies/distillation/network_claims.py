"""The values behind the distillation chapter's claims on self-distillation, DeiT, Switch's distillation and TinyBERT, one value per seed.

Each function takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.base.needs import leaves_out_zero
from lib.studies.distillation.names import method

Studies = Mapping[str, Results]

#: What a teacher of two classes has to reach for its student's share of it to mean anything.
LEAST_TEACHER = 0.6


def tested(result: Result) -> float:
    return result.metrics["test_accuracy"]


def by_seed(runs: Iterable[Result], name: str, value: Callable[[Result], float] = tested) -> dict[int, float]:
    """A value of the runs of this method, by seed."""
    return seeds.by_seed(runs, name, method, value)


def difference(first: dict[int, float], second: dict[int, float], *runs: Results) -> list[float]:
    """First minus second for each seed that both have; NotTestable where there is none."""
    found = [value - second[seed] for seed, value in first.items() if seed in second]
    if not found:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return found


def both(result: Result) -> Scores:
    """Validation and test accuracy."""
    return result.metrics["val_accuracy"], tested(result)


def spread(groups: Iterable[dict[int, Scores]], *runs: Results) -> list[float]:
    """The best of several configurations minus the worst, both chosen by validation on the other seeds.

    The largest minus the smallest on the seed itself is above 0 even where all are equally good.
    """
    groups = {number: group for number, group in enumerate(groups) if group}
    if len(groups) < 2:
        raise NotTestable(f"there are no two configurations to compare{why(*runs)}")
    best, worst = chosen_elsewhere(groups, max), chosen_elsewhere(groups, min)
    return [best[seed] - worst[seed] for seed in best]


# Self-distillation


def deepest_minus_plain(studies: Studies) -> list[float]:
    runs = studies["self"]
    return difference(by_seed(runs, "self-distillation"), by_seed(runs, "plain network"), runs)


def second_shallowest_minus_plain(studies: Studies) -> list[float]:
    runs = studies["self"]
    second = by_seed(runs, "self-distillation", lambda r: r.arrays["test_accuracy_by_exit"][1])
    return difference(second, by_seed(runs, "plain network"), runs)


def early_exit_speedup(studies: Studies) -> list[float]:
    """FLOPs of the plain network over the mean FLOPs of the cheapest thresholds that are as accurate on validation
    images.
    """
    runs, searches = studies["self"], studies["thresholds"]
    plain = seeds.each_seed((r for r in runs if method(r) == "plain network"), lambda r: r, "plain network")
    found = []
    for search in searches:
        if (base := plain.get(search.fields["seed"])) is None:
            continue
        front = zip(search.arrays["front_val_accuracy"], search.arrays["front_test_flops"])
        enough = [flops for accuracy, flops in front if accuracy >= base.metrics["val_accuracy"]]
        if not enough:
            raise NotTestable(
                "with no thresholds is the network with early exits as accurate as the plain one: "
                "how fast it is at equal accuracy cannot be said"
            )
        found.append(base.metrics["flops_per_image"] / min(enough))
    if not found:
        raise NotTestable(f"no thresholds were searched for a network that has a plain counterpart{why(runs, searches)}")
    return found


def spread_of_references(studies: Studies) -> list[float]:
    runs, others = studies["self"], studies["references"]
    names = dict.fromkeys(method(r) for r in others)
    return spread([by_seed(runs, "self-distillation", both), *(by_seed(others, name, both) for name in names)], runs, others)


def spread_of_places(studies: Studies) -> list[float]:
    runs, others = studies["self"], studies["places"]
    grouped: dict[tuple, list[Result]] = {}
    for r in others:
        grouped.setdefault(tuple(r.spec["places"]), []).append(r)
    groups = {places: seeds.each_seed(found, both, f"exits at {places}") for places, found in grouped.items()}
    return spread([by_seed(runs, "self-distillation", both), *groups.values()], runs, others)


def distilled_minus_deep_supervision(studies: Studies) -> list[float]:
    runs, parts = studies["self"], studies["self parts"]
    return difference(by_seed(runs, "self-distillation"), by_seed(parts, "labels at every depth"), runs, parts)


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


# TinyBERT


def share_of_teacher(studies: Studies) -> list[float]:
    runs = studies["tinybert"]
    able = [r for r in runs if method(r) == "TinyBERT" and r.metrics["teacher_test_accuracy"] >= LEAST_TEACHER]
    if not able:
        raise NotTestable(f"no teacher is right in {LEAST_TEACHER:.0%} of the cases: there is nothing to keep{why(runs)}")
    return [tested(r) / r.metrics["teacher_test_accuracy"] for r in able]


def tiny_minus_pretrained(studies: Studies) -> list[float]:
    runs = studies["tinybert"]
    return difference(by_seed(runs, "TinyBERT"), by_seed(runs, "pre-trained by itself, labels"), runs)


def tiny_minus_without(studies: Studies, what: str) -> list[float]:
    runs, parts = studies["tinybert"], studies["tinybert parts"]
    return difference(by_seed(runs, "TinyBERT"), by_seed(parts, f"TinyBERT, {what}"), runs, parts)


def tiny_minus_answers_only(studies: Studies) -> list[float]:
    return tiny_minus_without(studies, "answers only")


def tiny_minus_no_general_stage(studies: Studies) -> list[float]:
    return tiny_minus_without(studies, "no general stage")


def tiny_minus_no_replaced_words(studies: Studies) -> list[float]:
    return tiny_minus_without(studies, "no replaced words")


def uniform_minus_best_map(studies: Studies) -> list[float]:
    runs, others = studies["tinybert"], studies["layer maps"]
    names = dict.fromkeys(method(r) for r in others)
    if not names:
        raise NotTestable(f"no other map was tried{why(others)}")
    best = chosen_elsewhere({name: by_seed(others, name, both) for name in names})
    return difference(by_seed(runs, "TinyBERT"), best, runs, others)
