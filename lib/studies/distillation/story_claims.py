"""The values behind the claims about story tellers: how much better a student writes by its teacher's standard, one value per seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lib.runs.results import Results
from lib.studies.base import seeds
from lib.studies.distillation.names import method

Studies = Mapping[str, Results]


def of_arm(runs: Results, name: str, metric: str) -> dict[int, float]:
    """A metric of this arm's students on test stories, by seed."""
    return seeds.by_seed(runs, name, method, lambda r: r.metrics.get(f"test_{metric}"))


def closer(name: str, than: str) -> Callable[[Studies], list[float]]:
    """By which share the first arm's KL(student ‖ teacher), on its own texts, is below the second's."""

    def values(studies: Studies) -> list[float]:
        runs = studies["stories"]
        pairs = seeds.paired(of_arm(runs, name, "reverse"), of_arm(runs, than, "reverse"), runs)
        return [1 - own / other for own, other in pairs]

    return values


sequence_over_text = closer("sequence-level KD", "text alone")
own_over_people = closer("forward KL, own texts", "word-level KD")
minillm_over_words = closer("reverse KL, own texts", "word-level KD")


def exposure_saved(studies: Studies) -> list[float]:
    """Excess error of word-level distillation minus that of the reverse divergence on the student's own texts."""
    runs = studies["stories"]
    pairs = seeds.paired(of_arm(runs, "word-level KD", "exposure"), of_arm(runs, "reverse KL, own texts", "exposure"), runs)
    return [words - own for words, own in pairs]
