"""The values behind the benchmarks chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns differences of test accuracies, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.measure.paired import Difference, crossed
from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.answers import correct_of
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.benchmarks import needs
from lib.studies.benchmarks.needs import WRITTEN, by_seed

Studies = Mapping[str, Results]


def by_family(
    studies: Studies, first: str, second: str, families: Iterable[str] = tuple(WRITTEN), holds: Iterable[str] = ()
) -> dict[str, Difference | NotTestable]:
    """``first`` minus ``second`` for each family, with the interval for seeds and images: all rows answer the same images.

    ``holds``  needs of :mod:`lib.studies.benchmarks.needs` that must hold for a family
    """
    return {WRITTEN[of]: apart(studies, of, first, second, holds) for of in families}


def apart(studies: Studies, of: str, first: str, second: str, holds: Iterable[str]) -> Difference | NotTestable:
    """The same for one family, or why it cannot be told there."""
    if reason := next((found for need in holds if (found := needs.unmet(getattr(needs, need), studies, of))), None):
        return reason
    try:
        whole = [runs for study, runs in studies.items() if study != "halves"]
        sides = [by_seed(whole, of, called, lambda result: correct_of(result.arrays["correct"])) for called in (first, second)]
    except NotTestable as reason:
        return reason
    common = sorted(set(sides[0]) & set(sides[1]))
    if not common:
        return NotTestable("no two runs of the same seed to compare")
    return crossed(*(np.stack([side[seed] for seed in common]) for side in sides))


# Orders


def orders(studies: Studies) -> dict[tuple[str, ...], dict[int, Scores]]:
    """The chains of all three steps: their kinds in order → validation and test accuracy by seed."""
    grouped: dict[tuple[str, ...], list[Result]] = {}
    for result in studies["orders"]:
        kinds = tuple(stage["type"] for stage in result.spec["stages"])
        if len(kinds) == 3:
            grouped.setdefault(kinds, []).append(result)
    found = {
        kinds: seeds.each_seed(runs, lambda run: (run.metrics["val_accuracy"], run.metrics["test_accuracy"]), " → ".join(kinds))
        for kinds, runs in grouped.items()
    }
    if len(found) < 6:
        raise NotTestable(f"not all six orders are there{why(studies['orders'])}")
    return found


def minus_best(studies: Studies, order: Iterable[str]) -> list[float]:
    """Test accuracy of an order minus that of the other one that is best by validation on the other seeds."""
    found, order = orders(studies), tuple(order)
    others = chosen_elsewhere({kinds: runs for kinds, runs in found.items() if kinds != order})
    return [found[order][seed][1] - best for seed, best in others.items()]
