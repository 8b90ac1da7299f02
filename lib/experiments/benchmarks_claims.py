"""The values behind chapter 9's claims: one function per claim of ``data/claims.yml``, one value per seed.

Each takes the studies that its claim names (study → Results) and returns differences of test accuracies, or raises
:class:`lib.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from operator import itemgetter

from lib.experiments.benchmark_names import family, name
from lib.results import Results
from lib.statistics import NotTestable, why

Studies = Mapping[str, Results]

#: A dense network that is right less often than this has learnt too little to compare anything with.
LEAST_ACCURACY = 0.2


def by_seed(runs: Iterable[Results], of: str, called: str, metric: str = "test_accuracy") -> dict[int, float]:
    """A metric of the runs of that family and name, by seed.  Raises NotTestable where there is none."""
    runs = list(runs)
    found = {result.spec["seed"]: result.metrics[metric] for results in runs for result in results
             if family(result.spec) == of and name(result.spec) == called}
    if not found:
        raise NotTestable(f"there is no {called!r}{why(*runs)}")
    return found


def both_families(studies: Studies, first: str, second: str) -> list[float]:
    """``first`` minus ``second``, mean over the families, by seed."""
    pairs = {of: difference(by_seed(studies.values(), of, first), by_seed(studies.values(), of, second)) for of in ("vit", "cnn")}
    common = sorted(set.intersection(*(set(pair) for pair in pairs.values())))
    if not common:
        raise NotTestable("no seed has runs of both families")
    return [statistics.mean(pair[seed] for pair in pairs.values()) for seed in common]


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {seed: value - second[seed] for seed, value in first.items() if seed in second}


def learnt(studies: Studies) -> None:
    """Raises NotTestable where a family's dense network learnt next to nothing."""
    for of in ("vit", "cnn"):
        if statistics.mean(by_seed(studies.values(), of, "dense").values()) < LEAST_ACCURACY:
            raise NotTestable(f"a dense network is right in less than {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")


# Orders

def orders(studies: Studies) -> dict[tuple[str, ...], tuple[dict[int, float], float]]:
    """The chains of all three steps: their kinds in order → test accuracy by seed, mean validation accuracy."""
    found: dict[tuple[str, ...], list] = {}
    for result in studies["orders"]:
        kinds = tuple(stage["type"] for stage in result.spec["stages"])
        if len(kinds) == 3:
            found.setdefault(kinds, []).append(result)
    if len(found) < 6:
        raise NotTestable(f"not all six orders are there{why(studies['orders'])}")
    return {kinds: ({r.spec["seed"]: r.metrics["test_accuracy"] for r in runs},
                    statistics.mean(r.metrics["val_accuracy"] for r in runs)) for kinds, runs in found.items()}


def minus_best(studies: Studies, order: tuple[str, ...]) -> list[float]:
    """Test accuracy of an order minus that of the best other one by validation."""
    found = orders(studies)
    others = {kinds: runs for kinds, runs in found.items() if kinds != order}
    best = max(others.values(), key=itemgetter(1))
    return list(difference(found[order][0], best[0]).values())


def distil_last_minus_best(studies: Studies) -> list[float]:
    return minus_best(studies, ("Prune", "Quantize", "Distil"))


def distil_first_minus_best(studies: Studies) -> list[float]:
    return minus_best(studies, ("Distil", "Prune", "Quantize"))


def best_minus_worst_order(studies: Studies) -> list[float]:
    found = orders(studies).values()
    return list(difference(max(found, key=itemgetter(1))[0], min(found, key=itemgetter(1))[0]).values())


# Compression

def pruned_minus_narrow(studies: Studies) -> list[float]:
    learnt(studies)
    runs = studies.values()
    return list(difference(by_seed(runs, "vit", "pruned to 1/4"), by_seed(runs, "vit", "dense, 1/2 width")).values())


def four_bits_minus_quarter(studies: Studies) -> list[float]:
    return both_families(studies, "4 bits", "pruned to 1/4")


def eighth_minus_two_bits(studies: Studies) -> list[float]:
    return both_families(studies, "pruned to 1/8", "2 bits")


def scratch_minus_removed(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "dense, 1/2 of the inner units", "1/2 of the inner units removed")


def pruned_and_quantized_minus_dense(studies: Studies) -> list[float]:
    learnt(studies)
    return both_families(studies, "pruned to 1/4 → 4 bits", "dense")
