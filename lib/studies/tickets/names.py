"""What a run of the tickets chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

import pandas as pd

from lib.data.tasks import TASKS as MADE
from lib.data.titles import title
from lib.runs.results import Result, Results
from lib.studies.base import named
from lib.studies.tickets.labels import label

#: What a subnetwork is trained from, as the paper's controls are called here.
WEIGHTS = {"pretrained": "", "random": ", random weights", "shuffled": ", shuffled weights"}

#: Tasks as tables write them.
TASKS = {"mlm": "masked words"} | {task: title(task) for task in MADE}


def method(result: Result) -> str:
    """The method of a run; the task it is trained on and its seed are not part of a name."""
    spec = result.spec
    if result.experiment == "tickets-pretrain":
        return "pre-training"
    if result.experiment == "tickets-checkpoint":
        return "checkpoint"
    if result.experiment == "tickets-words-head":
        return "head for masked words"
    if result.experiment == "tickets-words":
        return "counting words"
    if result.experiment == "tickets-finetune":
        return {"pretrained": "whole network", "random": "whole network, not pre-trained", "shuffled": "whole network, shuffled weights"}[
            spec["start"]
        ]
    if result.experiment == "tickets-lth":
        return pruned(spec["rewind"])
    if result.experiment == "tickets-subnetwork":
        return subnetwork(spec)
    return label(result)


def pruned(rewind: float | None) -> str:
    if rewind is None:
        return "standard pruning"
    return "ticket" if rewind == 0 else f"ticket, rewound to {rewind:.0%}"


def subnetwork(spec: dict) -> str:
    if spec["masks"] == "random":
        name = "random mask"
    elif spec["masks"] == "none":
        name = "no mask"
    elif spec["masks"] == "direct":
        name = "smallest pre-trained weights"
    else:
        name = "ticket" if spec["ticket"]["task"] == spec["task"] else f"ticket of {TASKS[spec['ticket']['task']]}"
    return name + WEIGHTS[spec["start"]]


def origin(result: Result) -> str:
    """The row of the transfer matrix that a run belongs to: the task its masks come from, or "direct"."""
    spec = result.spec
    if result.experiment == "tickets-lth":
        return spec["task"]
    return spec["ticket"]["task"] if spec["ticket"] else spec["masks"]


def frame(results: Results, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.frame`."""
    return named.frame(results, name)


def curves(results: Results, *names: str, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.curves`."""
    return named.curves(results, *names, name=name)
