"""The values behind the teachers chapter's claims on networks that teach themselves, one value per seed.

Each function takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.base.seeds import tested
from lib.studies.teachers.names import method

Studies = Mapping[str, Results]


def by_seed(runs: Iterable[Result], name: str, value: Callable[[Result], float] = tested) -> dict[int, float]:
    """A value of the runs of this method, by seed."""
    return seeds.by_seed(runs, name, method, value)


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
