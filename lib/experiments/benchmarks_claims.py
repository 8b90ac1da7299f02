"""The values behind chapter 9's claims: one function per claim of ``data/claims.yml``, one value per seed.

Each takes the studies that its claim names (study → Results) and returns differences of test accuracies, or raises
:class:`lib.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping

from lib.experiments.benchmark_names import family, name, start
from lib.results import Results
from lib.statistics import NotTestable, why

Studies = Mapping[str, Results]

#: A dense network that is right less often than this many times chance has learnt too little to compare anything with.
LEAST_TIMES_CHANCE = 2.0


def by_seed(runs: Iterable[Results], of: str, called: str, metric: str = "test_accuracy") -> dict[int, float]:
    """A metric of the runs of that family and name, by seed.  Raises NotTestable where there is none, or where one diverged."""
    runs = list(runs)
    found = [result for results in runs for result in results
             if family(result.spec) == of and name(result.spec) == called]
    if not found:
        raise NotTestable(f"there is no {called!r}{why(*runs)}")
    if any(result.metrics["diverged"] for result in found):
        raise NotTestable(f"a training of {called!r} diverged")
    return {result.spec["seed"]: result.metrics[metric] for result in found}


def both_families(studies: Studies, first: str, second: str) -> list[float]:
    """``first`` minus ``second``, mean over the families, by seed."""
    pairs = {of: difference(*(by_seed(studies.values(), of, called) for called in (first, second))) for of in ("vit", "cnn")}
    common = sorted(set.intersection(*(set(pair) for pair in pairs.values())))
    if not common:
        raise NotTestable("no seed has runs of both families")
    return [statistics.mean(pair[seed] for pair in pairs.values()) for seed in common]


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {seed: value - second[seed] for seed, value in first.items() if seed in second}


def learnt(studies: Studies, families: Iterable[str] = ("vit", "cnn")) -> None:
    """Raises NotTestable where a family's dense network learnt next to nothing."""
    for of in families:
        accuracy = statistics.mean(by_seed([studies["dense"]], of, "dense").values())
        classes = next(start(result.spec)["task"][of]["classes"] for result in studies["dense"])
        if accuracy < LEAST_TIMES_CHANCE / classes:
            raise NotTestable(f"a dense network is right in {accuracy:.0%} of the cases only: there is nothing to keep")


# Orders

def orders(studies: Studies) -> dict[tuple[str, ...], dict[int, tuple[float, float]]]:
    """The chains of all three steps: their kinds in order → test and validation accuracy by seed."""
    learnt(studies, ["vit"])
    found: dict[tuple[str, ...], dict[int, tuple[float, float]]] = {}
    for result in studies["orders"]:
        kinds = tuple(stage["type"] for stage in result.spec["stages"])
        if len(kinds) == 3:
            accuracies = result.metrics["test_accuracy"], result.metrics["val_accuracy"]
            found.setdefault(kinds, {})[result.spec["seed"]] = accuracies
    if len(found) < 6:
        raise NotTestable(f"not all six orders are there{why(studies['orders'])}")
    return found


def shared(found: Mapping[tuple[str, ...], Mapping[int, object]]) -> list[int]:
    """Seeds that every order has.  A single one cannot tell: what is best on it is so partly by chance."""
    seeds = sorted(set.intersection(*(set(runs) for runs in found.values())))
    if len(seeds) < 2:
        raise NotTestable("orders are chosen on other seeds than they are compared on, which takes two at least")
    return seeds


def chosen(found: Mapping[tuple[str, ...], Mapping[int, tuple[float, float]]], seed: int, pick: Callable) -> tuple[str, ...]:
    """The order that ``pick``, max or min, takes by mean validation accuracy over all seeds but this one."""
    return pick(found, key=lambda kinds: statistics.mean(val for s, (_, val) in found[kinds].items() if s != seed))


def minus_best(studies: Studies, order: tuple[str, ...]) -> list[float]:
    """Test accuracy of an order minus that of the other one that is best by validation on the other seeds."""
    found = orders(studies)
    others = {kinds: runs for kinds, runs in found.items() if kinds != order}
    return [found[order][seed][0] - others[chosen(others, seed, max)][seed][0] for seed in shared(found)]


def distil_last_minus_best(studies: Studies) -> list[float]:
    return minus_best(studies, ("Prune", "Quantize", "Distil"))


def distil_first_minus_best(studies: Studies) -> list[float]:
    return minus_best(studies, ("Distil", "Prune", "Quantize"))


def best_minus_worst_order(studies: Studies) -> list[float]:
    found = orders(studies)
    return [found[chosen(found, seed, max)][seed][0] - found[chosen(found, seed, min)][seed][0] for seed in shared(found)]


# Compression

def pruned_minus_narrow(studies: Studies) -> list[float]:
    learnt(studies, ["vit"])
    runs = studies.values()
    narrow = by_seed(runs, "vit", "dense, 1/2 width")
    return list(difference(by_seed(runs, "vit", "pruned to 1/4"), narrow).values())


def four_bits_minus_quarter(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "4 bits", "pruned to 1/4")


def eighth_minus_two_bits(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "pruned to 1/8", "2 bits")


def scratch_minus_removed(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "dense, 1/2 of the inner units", "1/2 of the inner units removed")


def pruned_and_quantized_minus_dense(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "pruned to 1/4 → 4 bits", "dense")
