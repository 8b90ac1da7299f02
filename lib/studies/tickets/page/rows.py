"""The tickets chapter's runs as its cells pick them: by field, by task, their scores, and sentences task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.measure.statistics import percent
from lib.runs.results import Result, Results
from lib.studies.base.picked import column
from lib.studies.tickets.counted import base, measure, tested
from lib.studies.tickets.labels import label
from lib.studies.tickets.names import TASKS, method


def of(results: Results, **fields: Any) -> list[Result]:
    """Return the runs whose Spec fields have these values."""
    return list(results.where(**fields))


def task_of(result: Result) -> str:
    """Return the task of the fine-tuning that a run builds on."""
    return base(result.spec)["task"]


def on_task(results: Iterable[Result], task: str) -> list[Result]:
    """Return the runs whose own task this is."""
    return [r for r in results if r.spec["task"] == task]


def of_texts(tickets: Iterable[Result]) -> list[Result]:
    """Return the tickets of tasks about texts, without those of masked words."""
    return [r for r in tickets if r.spec["task"] != "mlm"]


def at_target(results: Iterable[Result], target: float | None) -> list[Result]:
    """Return the runs of gated networks with this target."""
    return [r for r in results if r.spec["parent"]["target"] == target]


def most_examples(results: Sequence[Result]) -> list[Result]:
    """Return the runs with the most training examples."""
    most = max((r.spec["size"]["train"] for r in results), default=0)
    return [r for r in results if r.spec["size"]["train"] == most]


def whole_like(results: Iterable[Result], whole: Iterable[Result]) -> list[Result]:
    """Return the whole networks, fine-tuned from the checkpoint, of the tasks and sizes that these runs are about."""
    wanted = {(base(r.spec)["task"], base(r.spec)["size"]["train"]) for r in results}
    return [r for r in whole if r.spec["start"] == "pretrained" and (r.spec["task"], r.spec["size"]["train"]) in wanted]


def scores(results: Iterable[Result]) -> list[float]:
    """Return the test scores of the runs that have one: accuracy, of CoLA Matthews' correlation."""
    return [value for r in results if (value := tested(r)) is not None]


def mean_over(results: Results, **fields: Any) -> float:
    """Return the mean test score of the runs whose Spec fields have these values."""
    return float(np.mean(scores(of(results, **fields))))


def by_seed(results: Iterable[Result]) -> pd.Series:
    """Return the test score of each seed, mean over tasks where there are several."""
    return pd.DataFrame([{"seed": r.fields["seed"], "value": tested(r)} for r in results]).groupby("seed")["value"].mean()


def rows_of(results: Iterable[Result], *metrics: str) -> pd.DataFrame:
    """Return a row per run: what it is called, its task and seed, its test score, and these metrics."""
    return pd.DataFrame(
        [
            {"method": label(r), "task": task_of(r), "seed": r.fields["seed"], "score": tested(r), **{m: r.metrics.get(m) for m in metrics}}
            for r in results
        ]
    )


def told_by_task(
    results: Iterable[Result],
    known: Iterable[str],
    say: Callable[[pd.DataFrame], str],
    name: Callable[[Result], str | None] = method,
) -> list[str]:
    """Return what ``say`` says of the runs of each task that counts, given their names, seeds and test scores."""
    found = pd.DataFrame([{"task": task_of(r), "method": name(r), "seed": r.fields["seed"], "score": tested(r)} for r in results])
    told = {task: say(found[found["task"] == task]) for task in known} if len(found) else {}
    return [f"{TASKS[task]}: {text}" for task, text in told.items() if text]


def in_short(task: str, whole: Iterable[Result], untrained: Results, tickets: Results, controls: Results, last: float) -> str:
    """Return the sentence about the whole network on a task, without pre-training, and without a share ``last`` of its weights."""

    def score(results: Iterable[Result], name: str) -> str:
        found = scores(r for r in on_task(results, task) if method(r) == name)
        return percent(found) if found else "not run yet"

    what = {"accuracy": "an accuracy of", "matthews": "a Matthews correlation of"}[measure(task)]
    return f"""Without {last:.0%} of its weights, a pre-trained encoder fine-tuned on {TASKS[task]} reaches {what} {score(tickets, "ticket")} where
        iterative pruning chose them, and {score(controls, "random mask")} where chance did. With all of them it reaches {score(whole, "whole network")}, and
        {score(untrained, "whole network, not pre-trained")} without pre-training."""


def best_of(cells: dict[tuple[str, str], list[float]], level: dict[str, float], known: Sequence[str], sources: Sequence[str]) -> str:
    """Return the sources of masks by what they lose on tasks other than their own, mean over these, the best first; "" for none.

    cells: test scores by source and task; level: the whole network's score by task.
    """
    elsewhere = {source: [task for task in level if task in known and task != source and (source, task) in cells] for source in sources}
    kept = {row: np.mean([np.mean(cells[row, task]) - level[task] for task in tasks]) for row, tasks in elsewhere.items() if tasks}
    return ", ".join(f"{TASKS.get(row, row)} ({100 * kept[row]:+.1f} points)" for row in sorted(kept, key=kept.get, reverse=True))


def stopped(searched: Results, played: Results) -> dict[str, list[float]]:
    """Return the share of the weights at which masking stopped, of whole parts and of single weights."""
    tasks = {task_of(r) for r in played}
    return {
        how: column([r for r in of(searched, how=how) if r.spec["to"] is None and task_of(r) in tasks], "share")
        for how in ("structured", "magnitude")
    }


def uncut(searched: Results) -> list[Result]:
    """Return the searches for whole parts that went on until the score was missed."""
    return [r for r in of(searched, how="structured") if r.spec["to"] is None]


def share_of(runs: Iterable[Result], kind: str) -> list[float]:
    """Return of each run the share of gates that are ``always_on``, ``always_off`` or ``input_dependent``."""
    kinds, parts = ("always_on", "always_off", "input_dependent"), ("heads", "neurons")
    return [
        sum(r.metrics[f"{part}_{kind}"] for part in parts) / sum(r.metrics[f"{part}_{one}"] for part in parts for one in kinds)
        for r in runs
    ]
