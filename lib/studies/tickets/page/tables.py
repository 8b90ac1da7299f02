"""The tickets chapter's tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.measure.statistics import NotTestable, amount, number, percent, times
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, grouped
from lib.studies.tickets.counted import tested
from lib.studies.tickets.labels import label
from lib.studies.tickets.names import TASKS, method, origin
from lib.studies.tickets.page.rows import by_seed, of, on_task, rows_of, scores, whole_like
from lib.studies.tickets.values import best_random


def whole_networks(usual: Iterable[Result], words: Results, untrained: Results) -> pd.DataFrame:
    """Return a row per task: the fine-tuned network, counted words, the same from random weights, as far as they were run."""
    usual, rows = list(usual), []
    for task in dict.fromkeys(r.spec["task"] for r in usual):
        row = {"task": TASKS[task], "pre-trained": percent(scores(on_task(usual, task)))}
        if counted := scores(on_task(words, task)):
            row["counting words"] = f"{counted[0]:.1%}"
        if scratch := scores(on_task(untrained, task)):
            row["from random weights"] = percent(scratch)
        rows.append(row)
    return pd.DataFrame(rows)


def shared_with_direct(tickets: Results, transferred: Results) -> tuple[pd.DataFrame, float]:
    """Return a row per task: how many of a ticket's weights *direct* keeps too, and what both score; and the least such share."""
    shared = grouped([r for r in tickets if r.metrics.get("shared_with_direct") is not None], lambda r: r.spec["task"])
    rows, least = [], 1.0
    for task, runs in shared.items():
        values = column(runs, "shared_with_direct")
        least = min(least, *values)
        own = on_task(tickets, task) if task != "mlm" else []
        direct = [r for r in on_task(transferred, task) if origin(r) == "direct"]
        row = {"ticket of": TASKS[task], "of its weights, direct keeps the same": percent(values)}
        for name, found in (("its own masks", own), ("masks of direct", direct)):
            row[f"test score, {name}"] = percent(scores(found)) if scores(found) else "–"
        rows.append(row)
    return pd.DataFrame(rows), least


def plays(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per kind of sub-network: test score and weights left, mean over tasks."""
    rows = []
    for name, part in rows_of(results, "share").groupby("method", sort=False):
        means = part.groupby("seed")[["score", "share"]].mean()
        rows.append({"sub-network": name, "test score": percent(means["score"]), "weights left": percent(means["share"])})
    return pd.DataFrame(rows)


def early_tickets(drawn: Results, whole: Results) -> pd.DataFrame:
    """Return a row per way to draw a ticket, beside the whole network; the best random one is chosen on other seeds."""
    rows = []
    if like := whole_like(drawn, whole):
        rows.append({"network": "whole network, as usual", "test score": percent(by_seed(like))})
    for name, part in rows_of(drawn).groupby("method", sort=False):
        rows.append({"network": name, "test score": percent(part.groupby("seed")["score"].mean())})
    try:
        best = pd.DataFrame([{"seed": key[-1], "value": value} for key, value in best_random(drawn).items()])
    except NotTestable:  # a draw has one seed only
        best = pd.DataFrame()
    if len(best):
        count = len({r.spec["number"] for r in of(drawn, draw="random")})
        rows.append({"network": f"best of {count} random tickets", "test score": percent(best.groupby("seed")["value"].mean())})
    return pd.DataFrame(rows)


def early_times(clock: Results) -> pd.DataFrame:
    """Return what each part of the training takes, as a share of the whole network's."""
    told = {
        "one step of the ticket": "step_ratio",
        "the search, up to the draw": "search_share",
        "training the ticket": "ticket_share",
        "both together": "time_ratio",
        "both, with as many epochs as the whole network": "time_ratio_same_epochs",
    }
    return pd.DataFrame([{"": what, "share of the whole network's": times(column(clock, metric))} for what, metric in told.items()])


def by_target(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per target and network: FLOPs and test score, mean over tasks."""
    frame = pd.DataFrame(
        [
            {
                "network": label(r),
                "target": r.spec["parent"]["target"],
                "seed": r.fields["seed"],
                "score": tested(r),
                "flops": r.metrics["flops"],
            }
            for r in results
        ]
    )
    rows = []
    for (target, name), part in frame.groupby(["target", "network"], sort=False):
        means = part.groupby("seed")[["score", "flops"]].mean()
        rows.append({"target": f"{target:g}", "network": name, "FLOPs": percent(means["flops"]), "test score": percent(means["score"])})
    return pd.DataFrame(sorted(rows, key=lambda row: row["target"]))


def speeds(results: Results) -> pd.DataFrame:
    """Return a row per network with its time by batch size, and the share of parts that a batch needs."""
    sizes = results[0].spec["batches"]
    told = {"dynamic, only masked": "masked", "dynamic, closed parts skipped": "skipping", "static, removed": "static"}
    rows = [
        {"network": what, **{f"batch of {size}": times(column(results, f"{name}_ratio_at_{size}")) for size in sizes}}
        for what, name in told.items()
    ]
    needed = {f"batch of {size}": percent(column(results, f"needed_at_{size}")) for size in sizes}
    return pd.DataFrame([*rows, {"network": "needed", **needed}])


def tinybert(*studies: Results) -> pd.DataFrame:
    """Return a row for the teacher and for each student of these studies."""
    named = grouped([r for study in studies for r in study], method)
    one = studies[0][0].metrics
    teacher = {
        "network": "teacher",
        "test accuracy": percent(column(named["TinyBERT"], "teacher_test_accuracy")),
        "agreement": "–",
        "parameters": amount(one["teacher_parameters"]),
        "faster": "1",
        "seconds": "–",
    }
    students = [
        {
            "network": name,
            "test accuracy": percent(column(runs)),
            "agreement": percent(column(runs, "agreement")),
            "parameters": amount(runs[0].metrics["parameters"]),
            "faster": f"{np.median(column(runs, 'speedup')):.1f}×",
            "seconds": number(column(runs, "train_seconds")),
        }
        for name, runs in named.items()
    ]
    return pd.DataFrame([teacher, *students])
