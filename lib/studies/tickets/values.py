"""The values behind the tickets chapter's claims about structured tickets (Prasanna, EarlyBERT, EBERT): one number per seed.

``data/claims.yml`` names them through :mod:`lib.studies.tickets.claims`.  Each task is judged by itself, and only those
that count, see :mod:`lib.studies.tickets.counted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.tickets.counted import base, by_task, of_task, tested
from lib.studies.tickets.names import TASKS, method
from lib.tickets.masks import chance_overlap, overlap

Studies = Mapping[str, Results]

#: A value for each (task, number of its training examples, seed).
Key = tuple[str, int, int]
Values = dict[Key, float]

#: Values by task, or why a task does not count.
ByTask = dict[str, list[float] | NotTestable]


def collect(results: Results, which: Callable[[Mapping[str, Any]], bool], metric: str | None = None) -> Values:
    """The metric, or the task's test score, of the runs whose Spec is meant, by task, size and seed."""
    found = {key(r): r.metrics.get(metric) if metric else tested(r) for r in results if which(r.spec)}
    return {at: value for at, value in found.items() if value is not None}


def key(result: Result) -> Key:
    of = base(result.spec)
    return of["task"], of["size"]["train"], result.fields["seed"]


def difference(first: Values, second: Values) -> Values:
    # Accuracies are counts over a few hundred: without rounding, 0.766 - 0.776 would miss a bound of -0.01 by 1e-17.
    return {at: round(value - second[at], 9) for at, value in first.items() if at in second}


def every_task(values: Values, *results: Results) -> ByTask:
    """Values of each task by seed, whether it counts or not: for times, and for what is not about accuracy."""
    if not values:
        raise NotTestable(f"no two runs of the same task and seed to compare{why(*results)}")
    return {TASKS.get(task, task): of_task(values, task) for task in dict.fromkeys(task for task, *_ in values)}


def is_whole(spec: Mapping[str, Any]) -> bool:
    """Not the controls without pre-training, which the same study may hold."""
    return spec.get("start", "pretrained") == "pretrained"


# When BERT Plays the Lottery


def retrained(how: str, choice: str, weights: str = "pretrained") -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: spec["search"]["how"] == how and spec["choice"] == choice and spec["weights"] == weights


def good_minus_random(studies: Studies, how: str) -> ByTask:
    runs = studies["plays-retrain"]
    return by_task(difference(collect(runs, retrained(how, "good")), collect(runs, retrained(how, "random"))), studies, runs)


def whole_minus_structured_bad(studies: Studies) -> ByTask:
    whole, runs = studies["finetune"], studies["plays-retrain"]
    return by_task(difference(collect(whole, is_whole), collect(runs, retrained("structured", "bad"))), studies, whole, runs)


def structured_share(studies: Studies) -> ByTask:
    runs = studies["plays-search"]
    return by_task(collect(runs, lambda spec: spec["how"] == "structured" and spec["to"] is None, "share"), studies, runs)


def whole_minus_harsh_random(studies: Studies) -> ByTask:
    """A random sub-network of the smallest share of heads and FFNs that was asked for."""
    whole, runs = studies["finetune"], studies["plays-harsh"]
    shares = {r.key: r.spec["search"]["to"] for r in runs if r.spec["search"]["to"]}
    if not shares:
        raise NotTestable(f"no sub-network was cut to a given size{why(runs)}")
    smallest = Results(tuple(r for r in runs if shares.get(r.key) == min(shares.values())), runs.missing)
    return by_task(difference(collect(whole, is_whole), collect(smallest, retrained("structured", "random"))), studies, whole, runs)


def head_agreement(studies: Studies) -> ByTask:
    """(overlap - chance) / (1 - chance) of every pair of seeds of a task.  Pairs share seeds: their interval is too narrow rather
    than too wide.
    """
    runs = studies["plays-search"]
    masks: dict[str, list[tuple[int, list]]] = {}
    for r in runs:
        if r.spec["how"] == "structured" and r.spec["to"] is None:
            masks.setdefault(key(r)[0], []).append((r.fields["seed"], r.arrays["heads"]))
    found = {
        (task, one, other): value
        for task, of_task in masks.items()
        for (one, a), (other, b) in combinations(of_task, 2)
        if (value := agreement(a, b)) is not None
    }
    if not found:
        raise NotTestable(f"it takes two seeds of a task, and heads that were masked, to compare them{why(runs)}")
    return by_task({(task, 0, number): value for number, ((task, *_), value) in enumerate(found.items())}, studies, runs)


def agreement(first: list[list[int]], second: list[list[int]]) -> float | None:
    """0: as random masks of these sizes, 1: the same; None where chance leaves no room, with all or no heads."""
    kept = [sum(map(sum, mask)) / sum(map(len, mask)) for mask in (first, second)]
    chance = chance_overlap(*kept)
    return None if chance >= 1 else (overlap(first, second) - chance) / (1 - chance)


# EarlyBERT


def drawn(how: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: spec["draw"] == how


def early_minus_whole(studies: Studies) -> ByTask:
    whole, runs = studies["finetune"], studies["early-tickets"]
    return by_task(difference(collect(runs, drawn("early")), collect(whole, is_whole)), studies, whole, runs)


def early_time_ratio(studies: Studies) -> ByTask:
    runs = studies["early-time"]
    return every_task(collect(runs, is_whole, "time_ratio"), runs)


def settled_share(studies: Studies) -> ByTask:
    """1 where the masks never settled."""
    runs = studies["early-search"]
    return every_task(collect(runs, is_whole, "settled_share"), runs)


def early_minus_best_random(studies: Studies) -> ByTask:
    runs = studies["early-tickets"]
    return by_task(difference(collect(runs, drawn("early")), best_random(runs)), studies, runs)


def best_random(runs: Results) -> Values:
    """The random ticket that is best by validation on the other seeds: each draw is a candidate of its own."""
    return best((r for r in runs if r.spec["draw"] == "random"), lambda r: str(r.spec["number"]))


def best(runs: Iterable[Result], name: Callable[[Result], str]) -> Values:
    """Test score of the candidate that is best by validation on the other seeds, for each task, size and seed."""
    candidates: dict[tuple[str, int], dict[str, dict[int, Scores]]] = {}
    for r in runs:
        *at, seed = key(r)
        candidates.setdefault(tuple(at), {}).setdefault(name(r), {})[seed] = (tested(r, "val"), tested(r))
    found: Values = {}
    for at, by_name in candidates.items():
        chosen = (
            chosen_elsewhere(by_name) if len(by_name) > 1 else {seed: tested for seed, (_, tested) in next(iter(by_name.values())).items()}
        )
        found |= {(*at, seed): tested for seed, tested in chosen.items()}
    return found


def early_minus_late(studies: Studies) -> ByTask:
    runs = studies["early-tickets"]
    return by_task(difference(collect(runs, drawn("early")), collect(runs, drawn("late"))), studies, runs)


# EBERT


def tuned(how: str, target: float, kind: str = "input", per_layer: bool = True) -> Callable[[Mapping[str, Any]], bool]:
    return lambda spec: (
        spec["how"] == how
        and spec["parent"]["target"] == target
        and spec["parent"]["kind"] == kind
        and (spec["parent"]["per_layer"] > 0) == per_layer
    )


def gated(runs: Results) -> Results:
    """Those of EBERT's second stage, where a study holds others too."""
    return Results(tuple(r for r in runs if r.experiment == "tickets-ebert"), runs.missing)


def targets(runs: Results) -> list[float]:
    """From the smallest; NotTestable where there is none."""
    found = sorted({r.spec["parent"]["target"] for r in runs})
    if not found:
        raise NotTestable(f"no dynamic network{why(runs)}")
    return found


def dynamic_minus_static(studies: Studies) -> ByTask:
    """Against the static control that is best by validation on the other seeds; mean over the targets."""
    runs, static = studies["ebert"], studies["ebert-static"]
    sums: dict[Key, list[float]] = {}
    for target in targets(runs):
        theirs = best((r for r in static if r.spec["parent"]["target"] == target), method)
        for at, value in difference(collect(runs, tuned("dynamic", target)), theirs).items():
            sums.setdefault(at, []).append(value)
    most = max(map(len, sums.values()), default=0)
    return by_task({at: sum(found) / most for at, found in sums.items() if len(found) == most}, studies, runs, static)


def dynamic_minus_whole(studies: Studies) -> ByTask:
    """At a target of 0.6, or hardly any other; NotTestable where no such target was run."""
    whole, runs = studies["finetune"], studies["ebert"]
    target = min(targets(runs), key=lambda target: abs(target - 0.6))
    if abs(target - 0.6) >= 0.05:
        raise NotTestable(f"no dynamic network was asked for 60 % of the FLOPs; the next target is {target:.0%}")
    return by_task(difference(collect(runs, tuned("dynamic", target)), collect(whole, is_whole)), studies, whole, runs)


def emptiest_with_minus_without(studies: Studies) -> ByTask:
    runs, others = studies["ebert"], studies["ebert-layers"]
    target = targets(others)[0]
    return every_task(
        difference(
            collect(runs, tuned("dynamic", target), "emptiest_by_kind"),
            collect(others, tuned("dynamic", target, per_layer=False), "emptiest_by_kind"),
        ),
        runs,
        others,
    )


def skipping_ratio(studies: Studies) -> ByTask:
    """Of networks that take at least half of the FLOPs asked for: one that closed everything is fast and useless."""
    runs = studies["ebert-speed"]
    alive = tuple(r for r in runs if r.metrics["flops"] >= r.spec["dynamic"]["parent"]["target"] / 2)
    if len(runs) and not alive:
        raise NotTestable("the gates have closed nearly everything: these networks compute nothing that could be timed")
    return every_task(collect(Results(alive, runs.missing), is_whole, "skipping_ratio_at_1"), runs)


def loss_with_few_minus_many(studies: Studies) -> ByTask:
    """At the smallest target that was run with few examples; the study of few examples holds their fine-tunings too."""
    whole, runs, few = studies["finetune"], studies["ebert"], gated(studies["ebert-small"])
    whole = Results((*whole, *(r for r in studies["ebert-small"] if r.key not in {own.key for own in few})), whole.missing)
    target, before = targets(few)[0], collect(whole, is_whole)

    def lost(results: Results) -> dict[tuple[str, int], tuple[int, float]]:
        """By task and seed: the number of examples, and what is lost."""
        after = collect(results, tuned("dynamic", target))
        return {
            (task, seed): (size, before[task, size, seed] - value)
            for (task, size, seed), value in after.items()
            if (task, size, seed) in before
        }

    small, large = lost(few), lost(runs)
    found = {}
    for task, seed in small.keys() & large.keys():
        (size, with_few), (more, with_many) = small[task, seed], large[task, seed]
        if size < more:
            found[task, size, seed] = with_few - with_many
    return by_task(found, studies, whole, runs, few)
