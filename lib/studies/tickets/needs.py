"""What the tickets chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`.

Which tasks count is asked of each task by itself, in :mod:`lib.studies.tickets.counted`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.base.needs import above_floor, at_least
from lib.studies.tickets.checkpoint import SHAPES
from lib.studies.tickets.counted import BUILDS_ON, of_score, tested

Studies = Mapping[str, Results]

#: Layers, and heads in each, of a network whose time is that of its arithmetic.
LAYERS, HEADS = 6, 8

#: How far the whole network may fall behind itself under the usual recipe and still count as trained.
TRAINED = 0.05

#: Share of the hidden words that is guessed by a network that has learnt to; the most frequent word alone is about a twentieth.
GUESSED = 0.2


def whole_network_trains_as_briefly(studies: Studies) -> None:
    """Need a whole network that trains under the ticket's own recipe: no more than five points below the usual one."""
    usual: dict[str, list[float]] = {}
    for r in studies["finetune"]:
        if r.spec["start"] == "pretrained":
            usual.setdefault(r.spec["task"], []).append(tested(r))
    brief: dict[str, list[float]] = {}
    for r in studies["early-tickets"]:
        if r.spec["draw"] == "whole":
            brief.setdefault(r.spec["search"]["base"]["task"], []).append(tested(r))
    if not brief:
        raise NotTestable("the whole network was not trained by the recipe of the tickets: nothing says that it trains at all")
    for task, found in brief.items():
        if (lost := float(np.mean(usual[task]) - np.mean(found))) > TRAINED:
            raise NotTestable(
                f"under the tickets' recipe the whole network itself has {of_score(task)} of {', '.join(f'{value:.1%}' for value in found)}, "
                f"{100 * lost:.0f} points below its usual training: the recipe fails, not the ticket"
            )


def arithmetic_takes_the_time(studies: Studies) -> None:
    """Need an encoder of 6 layers with 8 heads each at least: in a smaller one what is timed is the overhead."""
    geometries = {shape(pretraining(r.spec)) for results in studies.values() for r in results}
    if geometries and (least := min(geometries)) < (LAYERS, HEADS):
        raise NotTestable(f"an encoder of {least[0]} layers with {least[1]} heads was timed: what it takes is overhead, not arithmetic")


def pretraining(spec: Mapping) -> Mapping:
    """The pre-training behind a run, ours or a checkpoint."""
    while "source" not in spec:
        spec = next(spec[name] for name in BUILDS_ON if spec.get(name))
    return spec


def shape(pretrained: Mapping) -> tuple[int, int]:
    """Layers, and heads in each."""
    model = pretrained.get("model")
    return (model["depth"], model["heads"]) if model else SHAPES[pretrained["source"]["name"]]


def masked_words_are_guessed(studies: Studies) -> None:
    """Need a whole network that guesses a fifth of the hidden words before anything is pruned: else there is nothing to keep."""
    found = [r.metrics["dense_val_accuracy"] for r in studies["tickets"] if r.spec["task"] == "mlm"]
    if len(studies["tickets"]) and not found:
        raise NotTestable("no ticket was sought on masked words")
    if found and np.mean(found) < GUESSED:
        raise NotTestable(
            f"the whole network itself guesses {np.mean(found):.1%} of the hidden words: a ticket of them has nothing to keep"
        )


def student_is_small_enough(studies: Studies) -> None:
    """Need a student 7.5 times smaller than its teacher, as the paper's is."""
    found = [r.metrics["teacher_parameters"] / r.metrics["parameters"] for r in studies["tinybert"] if r.metrics.get("teacher_parameters")]
    at_least(found, 7.5, "the student", "times fewer parameters than its teacher")


def teacher_beats_words(studies: Studies) -> None:
    """Need a teacher of texts that beats counting words."""
    words = [r.metrics["test_accuracy"] for r in studies["tinybert words"]]
    teachers = [r.metrics["teacher_test_accuracy"] for r in studies["tinybert"] if r.metrics.get("teacher_test_accuracy") is not None]
    if not words:
        raise NotTestable("counting words was not tried on this task")
    above_floor(teachers, float(np.mean(words)), "the teacher", "counting words")
