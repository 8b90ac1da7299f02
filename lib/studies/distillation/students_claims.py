"""The values behind the distillation chapter's claims about students of one teacher: one function per claim, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.distillation.students_names import student

Studies = Mapping[str, Results]

#: A network that is right less often than this has learnt too little for a comparison to mean anything.
LEAST_ACCURACY = 0.3

TEST = "test_accuracy"


def by_seed(runs: Iterable[Result], name: str, metric: str = TEST) -> dict[int, float]:
    """A metric of the runs of this name, by seed."""
    return seeds.by_seed(runs, name, student, lambda r: r.metrics.get(metric))


def difference(first: dict[int, float], second: dict[int, float], *runs: Results) -> list[float]:
    """First minus second by seed, where at least one of the two has learnt something."""
    return seeds.difference(first, second, *runs, least=LEAST_ACCURACY)


def method_minus(name: str, other: str | None) -> Callable[[Studies], list[float]]:
    """A method against another one of the same study, or against labels alone."""

    def values(studies: Studies) -> list[float]:
        runs = studies["methods"]
        base = by_seed(studies["alone"], "labels alone") if other is None else by_seed(runs, other)
        return difference(by_seed(runs, name), base, *studies.values())

    return values


# Hinton's method and those that followed

hinton_minus_alone = method_minus("Hinton KD", None)
fitnets_minus_alone = method_minus("FitNets", None)
fitnets_minus_hinton = method_minus("FitNets", "Hinton KD")
crd_minus_alone = method_minus("CRD", None)
crd_minus_hinton = method_minus("CRD", "Hinton KD")
dkd_minus_alone = method_minus("DKD", None)
dkd_minus_hinton = method_minus("DKD", "Hinton KD")
dist_minus_alone = method_minus("DIST", None)
dist_minus_hinton = method_minus("DIST", "Hinton KD")
standardised_minus_alone = method_minus("logit standardisation", None)
standardised_minus_hinton = method_minus("logit standardisation", "Hinton KD")


def warm_minus_cold(studies: Studies) -> list[float]:
    """T = 4 against T = 1, at the same α."""
    runs = studies["sweep"]
    return difference(by_seed(runs, "Hinton KD"), by_seed(runs, "Hinton KD, T = 1"), runs)


def hard_teacher_minus_smoothed(studies: Studies) -> list[float]:
    """Students of a teacher trained from hard labels against those of one trained from smoothed labels."""
    runs = studies["smoothing"]
    return difference(by_seed(runs, "Hinton KD"), by_seed(runs, "Hinton KD of a teacher with smoothed labels"), runs)


def patient_minus_labels(studies: Studies) -> list[float]:
    """Function matching with mixup against labels alone, for as long."""
    runs = studies["patient"]
    return difference(by_seed(runs, "function matching, mixup"), by_seed(runs, "labels alone"), runs)


def same_view_minus_fixed(studies: Studies) -> list[float]:
    runs = studies["views"]
    return difference(by_seed(runs, "function matching"), by_seed(runs, "function matching, teacher sees plain images"), runs)
