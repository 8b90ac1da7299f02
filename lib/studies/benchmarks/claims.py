"""The values behind the benchmarks chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns differences of test accuracies, or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lib.measure.paired import Difference, crossed
from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.answers import correct_of
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.base.needs import above_linear
from lib.studies.benchmarks.names import family, name, start

Studies = Mapping[str, Results]

#: The families, as verdicts write them.
WRITTEN = {"vit": "transformer", "cnn": "residual network"}


def test_accuracy(result: Result) -> float:
    return result.metrics["test_accuracy"]


def by_seed(runs: Iterable[Results], of: str, called: str, value: Callable[[Result], Any] = test_accuracy) -> dict[int, Any]:
    """A value of the runs of that family and name, by seed.  Raises NotTestable where there is none, or where one diverged."""
    runs = list(runs)
    found = [result for results in runs for result in results if family(result.spec) == of and name(result.spec) == called]
    if not found:
        raise NotTestable(f"there is no {called!r}{why(*runs)}")
    if any(result.metrics["diverged"] for result in found):
        raise NotTestable(f"a run of {called!r} diverged")
    return seeds.by_seed(found, called, lambda result: name(result.spec), value)


def by_family(
    studies: Studies, first: str, second: str, families: Iterable[str] = ("vit", "cnn"), against_dense: bool = True
) -> dict[str, Difference | NotTestable]:
    """``first`` minus ``second`` for each family, with the interval for seeds and images: all rows answer the same images.

    ``against_dense``  one of the two is a network that was not compressed: then the whole one must be worth compressing
    """
    return {WRITTEN[of]: apart(studies, of, first, second, against_dense) for of in families}


def apart(studies: Studies, of: str, first: str, second: str, against_dense: bool) -> Difference | NotTestable:
    """The same for one family, or why it cannot be told there."""
    try:
        learnt(studies, [of])
        if against_dense:
            whole_is_best(studies, of)
        sides = [by_seed(studies.values(), of, called, lambda result: correct_of(result.arrays["correct"])) for called in (first, second)]
    except NotTestable as reason:
        return reason
    common = sorted(set(sides[0]) & set(sides[1]))
    if not common:
        return NotTestable("no two runs of the same seed to compare")
    return crossed(*(np.stack([side[seed] for seed in common]) for side in sides))


def whole_is_best(studies: Studies, of: str) -> None:
    """Raises NotTestable where a narrower dense network beats the whole one: compressing that could only win by losing size."""
    runs = [result for results in studies.values() for result in results if family(result.spec) == of]
    accuracy: dict[str, list[float]] = {}
    for result in {result.key: result for result in runs}.values():
        if name(result.spec).startswith("dense"):
            accuracy.setdefault(name(result.spec), []).append(result.metrics["test_accuracy"])
    best = max(accuracy, key=lambda called: statistics.mean(accuracy[called]))
    if best != "dense":
        raise NotTestable(
            f"the whole dense network is right in {statistics.mean(accuracy['dense']):.1%} of the cases and the one called "
            f"{best!r} in {statistics.mean(accuracy[best]):.1%}: it is too large for its training"
        )


def learnt(studies: Studies, families: Iterable[str] = ("vit", "cnn")) -> None:
    """Raises NotTestable where a family's dense network does not beat a linear classifier of the pixels."""
    for of in families:
        accuracies = list(by_seed([studies["dense"]], of, "dense").values())
        above_linear(accuracies, start(studies["dense"][0].spec)["task"]["dataset"], f"the dense {WRITTEN[of]}")


# Orders


def orders(studies: Studies) -> dict[tuple[str, ...], dict[int, Scores]]:
    """The chains of all three steps: their kinds in order → validation and test accuracy by seed."""
    learnt(studies, ["vit"])
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
