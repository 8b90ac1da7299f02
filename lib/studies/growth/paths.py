"""The whole way of a network: its own training behind those of the networks it was grown from."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lib.runs.results import Result


def lineage(result: Result, known: Iterable[Result]) -> list[Result]:
    """The runs behind a network, the first one first, itself last.

    ``known``: where its parents are looked for.  Raises LookupError for one that is not among them.
    """
    parent = result.spec["parent"]
    if parent is None:
        return [result]
    known = list(known)
    found = next((one for one in known if {"type": parent["type"]} | one.spec == parent), None)
    if found is None:
        raise LookupError(f"the training that {result.key} was grown from is not among the results")
    return lineage(found, known) + [result]


def path(line: list[Result], loss: str) -> pd.DataFrame:
    """``loss`` against what was spent until then, with what the transitions did to ``probe_loss``.

    Columns: ``seed``, ``phase``, ``flops`` (all runs together), ``loss``.  A transition is two rows at the same place: the end of a phase, and what is left of it.
    """
    rows, flops = [], 0
    for phase, run in enumerate(line):

        def row(part: float, value: float) -> dict:
            return {"seed": run.spec["seed"], "phase": phase, "flops": flops + part * run.metrics["flops"], "loss": value}

        if phase and loss == "probe_loss":
            rows.append(row(0.0, run.metrics["loss_after"]))
        values = run.curves[loss]
        rows += [row((point + 1) / len(values), value) for point, value in enumerate(values)]
        flops += run.metrics["flops"]
    return pd.DataFrame(rows)


def step_flops(run: Result) -> int:
    """Compute of one step, which tells networks of different geometry apart."""
    return run.metrics["flops"] // run.spec["steps"]


def step_seconds(pace: Result) -> dict[int, float]:
    """Measured seconds of a step by its compute, from a result of :class:`lib.studies.growth.pace.PaceRun`."""
    return {flops: ms / 1000 for flops, ms in zip(pace.arrays["flops"], pace.arrays["milliseconds"], strict=True)}


def seconds(line: list[Result], clock: dict[int, float]) -> float:
    """What all runs of a network would take at the measured pace."""
    return sum(run.spec["steps"] * clock[step_flops(run)] for run in line)
