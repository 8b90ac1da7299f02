"""What the distillation chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.studies.base.needs import above_linear, better, flat
from lib.studies.distillation.claims import by_seed
from lib.studies.distillation.names import method
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


def transformer_has_learnt(studies: Studies) -> None:
    """Need a transformer that by labels alone beats a linear classifier of the pixels."""
    runs = [r for r in studies["deit"] if method(r) == ALONE]
    dataset = runs[0].provenance["data"]["name"] if runs else "cifar10"
    above_linear(accuracies(runs), dataset, "the transformer by labels alone")


def dense_has_learnt(studies: Studies) -> None:
    """Need a dense transformer, of which the mixtures are made, that beats a linear classifier of the pixels."""
    runs = [r for r in studies["sparse"] if method(r).startswith("dense")]
    above_linear(accuracies(runs), runs[0].provenance["data"]["name"] if runs else "cifar10", "the dense transformer")


def teller_has_learnt(studies: Studies) -> None:
    """Need students that tell stories better than counted pairs of tokens do."""
    runs = studies["stories"]
    lost = [r.metrics["test_loss"] for r in runs if method(r) == "text alone"]
    if lost and (behind := float(np.mean(lost)) - runs[0].metrics["bigram_loss"]) >= 0:
        raise NotTestable(
            f"the student by text alone is {behind:+.2f} nats per token from counted pairs of tokens: it would have to be better"
        )


def teacher_tells_better(studies: Studies) -> None:
    """Need a teacher that tells stories better than its student by text alone."""
    alone = [r for r in studies["stories"] if method(r) == "text alone"]
    if alone and (behind := float(np.mean([r.metrics["teacher_loss"] - r.metrics["test_loss"] for r in alone]))) >= 0:
        raise NotTestable(f"the teacher is {behind:+.2f} nats per token from its student by text alone: it would have to be better")


def accuracies(runs: Iterable[Result]) -> list[float]:
    return [r.metrics["test_accuracy"] for r in runs]
