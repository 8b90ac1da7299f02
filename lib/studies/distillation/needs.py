"""What the distillation chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.studies.base.needs import above_floor, above_linear, at_least, better, flat
from lib.studies.base.seeds import each_seed
from lib.studies.distillation.names import method
from lib.studies.distillation.students_claims import NASTY, by_seed
from lib.studies.distillation.students_names import student

Studies = Mapping[str, Results]

ALONE = "labels alone"


def student_has_learnt(studies: Studies) -> None:
    """Need a student that by labels alone beats a linear classifier of the pixels."""
    runs = studies["alone"]
    above_linear(list(by_seed(runs, ALONE).values()), runs[0].spec["dataset"] if runs else "cifar10", "the student by labels alone")


def student_is_flat(studies: Studies, margin: float) -> None:
    """Need a student to which more training by labels alone brings less than ``margin``."""
    usual, longer = studies["alone"], [r for name in ("longer", "patient") for r in studies[name] if student(r) == ALONE]
    epochs = min((r.spec["recipe"]["epochs"] for r in usual), default=1)
    # Twice as long where that was run; else the patient students' length.
    times = min((r.spec["recipe"]["epochs"] / epochs for r in longer), default=2.0, key=lambda found: abs(found - 2))
    as_long = [r for r in longer if r.spec["recipe"]["epochs"] == times * epochs]
    flat(by_seed(usual, ALONE), by_seed(as_long, ALONE), margin, "the student by labels alone", times)


def teacher_is_better(studies: Studies) -> None:
    """Need a teacher that is better than its student by labels alone."""
    better(list(by_seed(studies["teacher"], ALONE).values()), list(by_seed(studies["alone"], ALONE).values()), "the teacher", "its student")


def nasty_teacher_is_nasty(studies: Studies) -> None:
    """Need a nasty teacher from which an ordinary student loses, on average, against labels alone."""
    taught, alone = by_seed(studies["nasty students"], NASTY), by_seed(studies["alone"], ALONE)
    both = [seed for seed in taught if seed in alone]
    if not both:
        raise NotTestable("no ordinary student of the nasty teacher shows whether it is nasty")
    if (gain := float(np.mean([taught[seed] - alone[seed] for seed in both]))) >= 0:
        raise NotTestable(f"the nasty teacher is not nasty: an ordinary student of it is {100 * gain:+.1f} points from labels alone")


def network_with_exits_has_learnt(studies: Studies) -> None:
    """Need a plain network that beats a linear classifier of the pixels."""
    runs = [r for r in studies["self"] if not r.spec.get("places")]
    above_linear(accuracies(runs), runs[0].spec["dataset"] if runs else "cifar10", "the plain network")


def network_with_exits_is_flat(studies: Studies, margin: float) -> None:
    """Need a plain network to which twice the training brings less than ``margin``."""
    usual = each_seed((r for r in studies["self"] if not r.spec.get("places")), lambda r: r.metrics["test_accuracy"], "plain network")
    longer = each_seed(studies["self longer"], lambda r: r.metrics["test_accuracy"], "longer network")
    flat(usual, longer, margin, "the plain network")


def student_is_small_enough(studies: Studies) -> None:
    """Need a student 7.5 times smaller than its teacher, as the paper's is."""
    found = [r.metrics["teacher_parameters"] / r.metrics["parameters"] for r in studies["tinybert"] if r.metrics.get("teacher_parameters")]
    at_least(found, 7.5, "the student", "times fewer parameters than its teacher")


def transformer_has_learnt(studies: Studies) -> None:
    """Need a transformer that by labels alone beats a linear classifier of the pixels."""
    runs = [r for r in studies["deit"] if method(r) == ALONE]
    dataset = runs[0].provenance["data"]["name"] if runs else "cifar10"
    above_linear(accuracies(runs), dataset, "the transformer by labels alone")


def teacher_beats_words(studies: Studies) -> None:
    """Need a teacher of texts that beats counting words."""
    words = [r.metrics["test_accuracy"] for r in studies["words"]]
    teachers = [r.metrics["teacher_test_accuracy"] for r in studies["tinybert"] if r.metrics.get("teacher_test_accuracy") is not None]
    if not words:
        raise NotTestable("counting words was not tried on this task")
    above_floor(teachers, float(np.mean(words)), "the teacher", "counting words")


def zero_shot_is_finished(studies: Studies) -> None:
    """Need zero-shot students on the paper's images, CIFAR-10."""
    names = {r.provenance["data"]["name"] for r in studies["zero-shot"]}
    if names and names != {"cifar10"}:
        raise NotTestable(f"the paper's figures are of CIFAR-10, and these students are of {', '.join(sorted(names))}")


def accuracies(runs: Iterable[Result]) -> list[float]:
    return [r.metrics["test_accuracy"] for r in runs]
