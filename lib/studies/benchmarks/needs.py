"""What the benchmarks chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`.

Each is asked of every family that is compared.  A family for which it does not hold decides nothing (``holds`` of
:func:`lib.studies.benchmarks.claims.by_family`), and where it holds for none the claim is not testable.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import needs, seeds
from lib.studies.benchmarks.names import family, name, start

Studies = Mapping[str, Results]

#: The families, as verdicts write them.
WRITTEN = {"vit": "transformer", "cnn": "residual network"}

#: Studies of what others are compared with.
BASELINES = ("dense", "halves")


def by_seed(runs: Iterable[Results], of: str, called: str, value: Callable[[Result], Any] = seeds.tested) -> dict[int, Any]:
    """A value of the runs of that family and name, by seed.  Raises NotTestable where there is none, or where one diverged."""
    runs = list(runs)
    found = [result for results in runs for result in results if family(result.spec) == of and name(result.spec) == called]
    if not found:
        raise NotTestable(f"there is no {called!r}{why(*runs)}")
    if any(result.metrics["diverged"] for result in found):
        raise NotTestable(f"a run of {called!r} diverged")
    return seeds.by_seed(found, called, lambda result: name(result.spec), value)


def learnt(studies: Studies, of: str) -> None:
    """Raise NotTestable where a family's dense network does not beat a linear classifier of the pixels."""
    accuracies = list(by_seed([studies["dense"]], of, "dense").values())
    needs.above_linear(accuracies, start(studies["dense"][0].spec)["task"]["dataset"], f"the dense {WRITTEN[of]}")


def best(studies: Studies, of: str) -> None:
    """Raise NotTestable where a narrower dense network beats the whole one: compressing that could only win by losing size."""
    accuracy: dict[str, list[float]] = {}
    for result in studies["dense"]:
        if family(result.spec) == of:
            accuracy.setdefault(name(result.spec), []).append(result.metrics["test_accuracy"])
    if not accuracy.get("dense"):
        raise NotTestable(f"there is no dense {WRITTEN[of]}{why(studies['dense'])}")
    ahead = max(accuracy, key=lambda called: statistics.mean(accuracy[called]))
    if ahead != "dense":
        raise NotTestable(
            f"the whole dense {WRITTEN[of]} is right in {statistics.mean(accuracy['dense']):.1%} of the cases and the one called "
            f"{ahead!r} in {statistics.mean(accuracy[ahead]):.1%}: it is too large for its training"
        )


def flat(studies: Studies, of: str) -> None:
    """Raise NotTestable where the second half of the budget brings a family's dense network a point or more."""
    half, whole = (by_seed([studies[study]], of, "dense") for study in ("halves", "dense"))
    needs.flat(half, whole, needs.ONE_POINT, f"the dense {WRITTEN[of]} of half of the budget")


def unmet(need: Callable[[Studies, str], None], studies: Studies, of: str) -> NotTestable | None:
    """Return why a need is not met for a family; None where it is."""
    try:
        need(studies, of)
    except NotTestable as reason:
        return reason
    return None


def for_one_at_least(need: Callable[[Studies, str], None], studies: Studies) -> None:
    """Raise NotTestable with all reasons where the need is met for no family that is compared; before anything is run, for no family."""
    compared = {family(result.spec) for study, runs in studies.items() if study not in BASELINES for result in runs} or set(WRITTEN)
    reasons = [unmet(need, studies, of) for of in WRITTEN if of in compared]
    if all(reasons):
        raise NotTestable("; ".join(dict.fromkeys(map(str, reasons))))


def dense_has_learnt(studies: Studies) -> None:
    """Need a whole dense network that beats a linear classifier of the pixels."""
    for_one_at_least(learnt, studies)


def whole_is_best(studies: Studies) -> None:
    """Need a whole dense network that is better than every narrower one: else what makes it smaller helps by that alone."""
    for_one_at_least(best, studies)


def whole_is_flat(studies: Studies) -> None:
    """Need a whole dense network to which the second half of the budget brings less than one point."""
    for_one_at_least(flat, studies)
