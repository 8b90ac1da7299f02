"""The values behind chapter 5's claims about structured tickets (Prasanna, EarlyBERT, EBERT): one number per seed.

``data/claims.yml`` names them through :mod:`lib.experiments.tickets_claims`.  Where a claim is about several tasks, a seed's
value is the mean over the tasks that both sides have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from operator import itemgetter
from typing import Any

from lib.results import Result, Results
from lib.statistics import NotTestable, why
from lib.tickets.masks import chance_overlap, overlap

Studies = Mapping[str, Results]

TEST = "test_accuracy"

#: A task on which the whole fine-tuned network is right less often than this says nothing about its parts: all of them
#: guess, and 90 % of its score is less than guessing scores.
LEAST_ACCURACY = 0.6

#: Fields in which a Spec holds the one it builds on.
BUILDS_ON = ("parent", "search", "base", "ticket", "dynamic")

#: A value for each (task, number of its training examples, seed).
Key = tuple[str, int, int]
Values = dict[Key, float]


def base(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fine-tuning that a Spec builds on."""
    while "task" not in spec:
        spec = next(spec[name] for name in BUILDS_ON if spec.get(name))
    return spec


def collect(results: Results, which: Callable[[Mapping[str, Any]], bool], metric: str = TEST) -> Values:
    """The metric of the runs whose Spec is meant, by task, size and seed."""
    return {key(r): r.metrics[metric] for r in results if which(r.spec) and r.metrics.get(metric) is not None}


def key(result: Result) -> Key:
    of = base(result.spec)
    return of["task"], of["size"]["train"], result.fields["seed"]


def per_seed(values: Values, *results: Results) -> list[float]:
    """Mean over tasks for each seed that has all the tasks that any seed has; NotTestable where there is none."""
    tasks = {(task, size) for task, size, _ in values}
    seeds = [seed for seed in sorted({seed for *_, seed in values}) if all((*task, seed) in values for task in tasks)]
    if not seeds:
        raise NotTestable(f"no seed has all the runs to compare{why(*results)}")
    return [sum(values[*task, seed] for task in tasks) / len(tasks) for seed in seeds]


def difference(first: Values, second: Values, *results: Results) -> list[float]:
    # Accuracies are counts over a few hundred: without rounding, 0.766 - 0.776 would miss a bound of -0.01 by 1e-17.
    return per_seed({at: round(value - second[at], 9) for at, value in first.items() if at in second}, *results)


def learnt(whole: Results, values: Values) -> Values:
    """Those of tasks and sizes that the whole network has learnt, by validation and on average over its seeds.

    Raises NotTestable where there is none.
    """
    scores: dict[tuple, list[float]] = {}
    for (task, size, _), score in collect(whole, is_whole, "val_accuracy").items():
        scores.setdefault((task, size), []).append(score)
    known = {at for at, found in scores.items() if sum(found) / len(found) >= LEAST_ACCURACY}
    kept = {(task, size, seed): value for (task, size, seed), value in values.items() if (task, size) in known}
    if values and not kept:
        raise NotTestable(f"the whole network is right in {LEAST_ACCURACY:.0%} of the cases on none of these tasks"
                          f"{why(whole)}")
    return kept


def is_whole(spec: Mapping[str, Any]) -> bool:
    """Not the controls without pre-training, which the same study may hold."""
    return spec.get("start", "pretrained") == "pretrained"


# When BERT Plays the Lottery

def retrained(how: str, choice: str, weights: str = "pretrained") -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: spec["search"]["how"] == how and spec["choice"] == choice and spec["weights"] == weights


def good_minus_random(whole: Results, runs: Results, how: str) -> list[float]:
    good = learnt(whole, collect(runs, retrained(how, "good")))
    return difference(good, collect(runs, retrained(how, "random")), runs)


def structured_good_minus_random(studies: Studies) -> list[float]:
    return good_minus_random(studies["finetune"], studies["plays-retrain"], "structured")


def magnitude_good_minus_random(studies: Studies) -> list[float]:
    return good_minus_random(studies["finetune"], studies["plays-retrain"], "magnitude")


def whole_minus_structured_bad(studies: Studies) -> list[float]:
    whole, runs = studies["finetune"], studies["plays-retrain"]
    return difference(learnt(whole, collect(whole, is_whole)), collect(runs, retrained("structured", "bad")), whole, runs)


def structured_share(studies: Studies) -> list[float]:
    runs = studies["plays-search"]
    shares = collect(runs, lambda spec: spec["how"] == "structured" and spec["to"] is None, "share")
    return per_seed(learnt(studies["finetune"], shares), runs)


def whole_minus_harsh_random(studies: Studies) -> list[float]:
    """A random sub-network of the smallest share of heads and FFNs that was asked for."""
    whole, runs = studies["finetune"], studies["plays-harsh"]
    shares = {r.key: r.spec["search"]["to"] for r in runs if r.spec["search"]["to"]}
    if not shares:
        raise NotTestable(f"no sub-network was cut to a given size{why(runs)}")
    smallest = Results(tuple(r for r in runs if shares.get(r.key) == min(shares.values())), runs.missing)
    return difference(learnt(whole, collect(whole, is_whole)), collect(smallest, retrained("structured", "random")),
                      whole, runs)


def head_agreement(studies: Studies) -> list[float]:
    """One value per task: mean over pairs of seeds of (overlap - chance) / (1 - chance)."""
    runs = studies["plays-search"]
    found_masks = {key(r): r.arrays["heads"] for r in runs if r.spec["how"] == "structured" and r.spec["to"] is None}
    masks: dict[tuple[str, int], list[list]] = {}
    for (task, size, _), mask in learnt(studies["finetune"], found_masks).items():
        masks.setdefault((task, size), []).append(mask)
    found = []
    for seeds in masks.values():
        pairs = [agreement(a, b) for a, b in combinations(seeds, 2)]
        pairs = [value for value in pairs if value is not None]
        if pairs:
            found.append(sum(pairs) / len(pairs))
    if not found:
        raise NotTestable(f"it takes two seeds of a task, and heads that were masked, to compare them{why(runs)}")
    return found


def agreement(first: list[list[int]], second: list[list[int]]) -> float | None:
    """0: as random masks of these sizes, 1: the same; None where chance leaves no room, with all or no heads."""
    kept = [sum(map(sum, mask)) / sum(map(len, mask)) for mask in (first, second)]
    chance = chance_overlap(*kept)
    return None if chance >= 1 else (overlap(first, second) - chance) / (1 - chance)


# EarlyBERT

def drawn(how: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: spec["draw"] == how


def early_minus_whole(studies: Studies) -> list[float]:
    whole, runs = studies["finetune"], studies["early-tickets"]
    return difference(learnt(whole, collect(runs, drawn("early"))), collect(whole, is_whole), whole, runs)


def early_time_ratio(studies: Studies) -> list[float]:
    runs = studies["early-time"]
    return per_seed(collect(runs, is_whole, "time_ratio"), runs)


def settled_share(studies: Studies) -> list[float]:
    """1 where the masks never settled."""
    runs = studies["early-search"]
    return per_seed(collect(runs, is_whole, "settled_share"), runs)


def early_minus_best_random(studies: Studies) -> list[float]:
    runs = studies["early-tickets"]
    return difference(learnt(studies["finetune"], collect(runs, drawn("early"))), best_random(runs), runs)


def best_random(runs: Results) -> Values:
    return best(r for r in runs if r.spec["draw"] == "random")


def best(runs: Iterable[Result]) -> Values:
    """Test accuracy of the run that is best by validation accuracy, for each task, size and seed."""
    found: dict[Key, tuple[float, float]] = {}
    for r in runs:
        value = r.metrics["val_accuracy"], r.metrics[TEST]
        found[key(r)] = max(found.get(key(r), value), value, key=itemgetter(0))
    return {at: tested for at, (_, tested) in found.items()}


def early_minus_late(studies: Studies) -> list[float]:
    runs = studies["early-tickets"]
    return difference(learnt(studies["finetune"], collect(runs, drawn("early"))), collect(runs, drawn("late")), runs)


# EBERT

def tuned(how: str, target: float, kind: str = "input", per_layer: bool = True) -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: (spec["how"] == how and spec["parent"]["target"] == target and spec["parent"]["kind"] == kind
                         and (spec["parent"]["per_layer"] > 0) == per_layer)


def gated(runs: Results) -> Results:
    """Those of EBERT's second stage, where a study holds others too."""
    return Results(tuple(r for r in runs if r.experiment == "tickets-ebert"), runs.missing)


def targets(runs: Results) -> list[float]:
    """From the smallest; NotTestable where there is none."""
    found = sorted({r.spec["parent"]["target"] for r in runs})
    if not found:
        raise NotTestable(f"no dynamic network{why(runs)}")
    return found


def dynamic_minus_static(studies: Studies) -> list[float]:
    """Against the static control that is best by validation accuracy; mean over the targets, then over tasks."""
    runs, static = studies["ebert"], studies["ebert-static"]
    sums: dict[Key, list[float]] = {}
    for target in targets(runs):
        ours = learnt(studies["finetune"], collect(runs, tuned("dynamic", target)))
        theirs = best(r for r in static if r.spec["parent"]["target"] == target)
        for at in ours.keys() & theirs.keys():
            sums.setdefault(at, []).append(ours[at] - theirs[at])
    most = max(map(len, sums.values()), default=0)
    return per_seed({at: sum(found) / most for at, found in sums.items() if len(found) == most}, runs, static)


def dynamic_minus_whole(studies: Studies) -> list[float]:
    """At a target of 0.6, or hardly any other; NotTestable where no such target was run."""
    whole, runs = studies["finetune"], studies["ebert"]
    target = min(targets(runs), key=lambda target: abs(target - 0.6))
    if abs(target - 0.6) >= 0.05:
        raise NotTestable(f"no dynamic network was asked for 60 % of the FLOPs; the next target is {target:.0%}")
    return difference(learnt(whole, collect(runs, tuned("dynamic", target))), collect(whole, is_whole), whole, runs)


def emptiest_with_minus_without(studies: Studies) -> list[float]:
    runs, others = studies["ebert"], studies["ebert-layers"]
    target = targets(others)[0]
    return difference(collect(runs, tuned("dynamic", target), "emptiest_by_kind"),
                      collect(others, tuned("dynamic", target, per_layer=False), "emptiest_by_kind"), runs, others)


def skipping_ratio(studies: Studies) -> list[float]:
    """Of networks that take at least half of the FLOPs asked for: one that closed everything is fast and useless."""
    runs = studies["ebert-speed"]
    alive = tuple(r for r in runs if r.metrics["flops"] >= r.spec["dynamic"]["parent"]["target"] / 2)
    if len(runs) and not alive:
        raise NotTestable("the gates have closed nearly everything: these networks compute nothing that could be timed")
    return per_seed(collect(Results(alive, runs.missing), is_whole, "skipping_ratio_at_1"), runs)


def loss_with_few_minus_many(studies: Studies) -> list[float]:
    """At the smallest target that was run with few examples; the study of few examples holds their fine-tunings too."""
    whole, runs, few = studies["finetune"], studies["ebert"], gated(studies["ebert-small"])
    whole = Results((*whole, *(r for r in studies["ebert-small"] if r.key not in {own.key for own in few})), whole.missing)
    target, before = targets(few)[0], collect(whole, is_whole)

    def lost(results: Results) -> dict[tuple[str, int], tuple[int, float]]:
        """By task and seed: the number of examples, and what is lost."""
        after = learnt(whole, collect(results, tuned("dynamic", target)))
        return {(task, seed): (size, before[task, size, seed] - value) for (task, size, seed), value in after.items()
                if (task, size, seed) in before}

    small, large = lost(few), lost(runs)
    found = {}
    for task, seed in small.keys() & large.keys():
        (size, with_few), (more, with_many) = small[task, seed], large[task, seed]
        if size < more:
            found[task, size, seed] = with_few - with_many
    return per_seed(found, whole, runs, few)
