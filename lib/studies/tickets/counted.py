"""Which of the tickets chapter's tasks count: those on which the whole fine-tuned network beats counting words and learning from scratch.

Elsewhere nothing can be lost, neither by pruning nor by forgetting what was learnt before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.tickets.names import TASKS

#: Fields in which a Spec holds the one it builds on.
BUILDS_ON = ("parent", "search", "base", "ticket", "dynamic")

Studies = Mapping[str, Results]

#: A value for each (task, …, seed).
Values = Mapping[tuple, float]

TEST = "test_accuracy"

#: What a task is judged by where it is not accuracy: two thirds of CoLA's sentences are of one class.
MEASURES = {"cola": "matthews"}


def measure(task: str) -> str:
    """The name of a task's score, as in ``test_accuracy`` and ``val_accuracy``."""
    return MEASURES.get(task, "accuracy")


def tested(result: Result, split: str = "test") -> float | None:
    """The score of a run on its own task; None where there is none."""
    return result.metrics.get(f"{split}_{measure(base(result.spec)['task'])}")


def base(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fine-tuning that a Spec builds on."""
    while "task" not in spec:
        spec = next(spec[name] for name in BUILDS_ON if spec.get(name))
    return spec


def scores(studies: Studies, kind: str) -> dict[str, list[float]]:
    """Test accuracies by task of the whole network, of the same without pre-training ("scratch"), or of counted "words".

    Of a task that was run with several numbers of examples, those with the most.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for r in {r.key: r for results in studies.values() for r in results}.values():
        if (value := score(r, kind)) is not None:
            found.setdefault(r.spec["task"], {}).setdefault(r.spec["size"]["train"], []).append(value)
    return {task: of_size[max(of_size)] for task, of_size in found.items()}


def score(r: Result, kind: str) -> float | None:
    if r.experiment == "tickets-words":
        return tested(r) if kind == "words" else None
    if r.experiment == "tickets-finetune":
        return tested(r) if r.spec.get("start", "pretrained") == {"whole": "pretrained", "scratch": "random"}.get(kind) else None
    return (
        r.metrics.get(f"dense_test_{measure(r.spec['task'])}")
        if kind == "whole" and r.experiment == "tickets-lth" and r.spec["task"] != "mlm"
        else None
    )


def uncounted(studies: Studies) -> dict[str, str]:
    """Return why a task does not count, for those that do not."""
    whole, scratch, words = (scores(studies, kind) for kind in ("whole", "scratch", "words"))
    reasons = {}
    for task, found in whole.items():
        own, rivals = float(np.mean(found)), {"counting words": words.get(task), "the same network without pre-training": scratch.get(task)}
        for rival, theirs in rivals.items():
            if not theirs:
                reasons[task] = f"{rival} was not tried on it"
            elif own <= np.mean(theirs):
                reasons[task] = f"the whole network has {of_score(task)} of {own:.1%}, {rival} {np.mean(theirs):.1%}"
                break
    return reasons


def of_score(task: str) -> str:
    return {"accuracy": "an accuracy", "matthews": "Matthews' correlation"}[measure(task)]


def by_task(values: Values, studies: Studies, *results: Results) -> dict[str, list[float] | NotTestable]:
    """Return the values of each task by seed, and of a task that does not count the reason.

    The task comes first and the seed last in a value's key.  Masked words, on which nothing is fine-tuned, are left out.  Raises :class:`NotTestable` where there is no value at all.
    """
    if not values:
        raise NotTestable(f"no two runs of the same task and seed to compare{why(*results)}")
    reasons, fine_tuned = uncounted(studies), scores(studies, "whole")
    return {
        TASKS.get(task, task): NotTestable(reasons[task]) if task in reasons else of_task(values, task)
        for task in dict.fromkeys(task for task, *_ in values)
        if task in fine_tuned
    }


def of_task(values: Values, task: str) -> list[float]:
    """The values of one task, in the order of their seeds; the mean over what else tells them apart."""
    seeds: dict[int, list[float]] = {}
    for (of, *_, seed), value in values.items():
        if of == task:
            seeds.setdefault(seed, []).append(value)
    most = max(map(len, seeds.values()))
    return [sum(found) / most for seed, found in sorted(seeds.items()) if len(found) == most]


def counted(studies: Studies) -> list[str]:
    """Return the tasks that count."""
    reasons = uncounted(studies)
    return [task for task in scores(studies, "whole") if task not in reasons]
