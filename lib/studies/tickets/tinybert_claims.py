"""The values behind the claims on TinyBERT, one value per seed; see :mod:`lib.studies.tickets.claims`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.elsewhere import Scores, chosen_elsewhere
from lib.studies.base.seeds import difference, tested
from lib.studies.tickets.labels import tinybert

Studies = Mapping[str, Results]

#: What a teacher of two classes has to reach for its student's share of it to mean anything.
LEAST_TEACHER = 0.6


def method(result: Result) -> str:
    return tinybert(result.spec)


def by_seed(runs: Iterable[Result], name: str, value: Callable[[Result], float] = tested) -> dict[int, float]:
    """A value of the runs of this name, by seed."""
    return seeds.by_seed(runs, name, method, value)


def both(result: Result) -> Scores:
    """Validation and test accuracy."""
    return result.metrics["val_accuracy"], tested(result)


def share_of_teacher(studies: Studies) -> list[float]:
    runs = studies["tinybert"]
    able = [r for r in runs if method(r) == "TinyBERT" and r.metrics["teacher_test_accuracy"] >= LEAST_TEACHER]
    if not able:
        raise NotTestable(f"no teacher is right in {LEAST_TEACHER:.0%} of the cases: there is nothing to keep{why(runs)}")
    return [tested(r) / r.metrics["teacher_test_accuracy"] for r in able]


def uniform_minus_best_map(studies: Studies) -> list[float]:
    runs, others = studies["tinybert"], studies["layer maps"]
    names = dict.fromkeys(method(r) for r in others)
    if not names:
        raise NotTestable(f"no other map was tried{why(others)}")
    best = chosen_elsewhere({name: by_seed(others, name, both) for name in names})
    return difference(by_seed(runs, "TinyBERT"), best, runs, others)
