"""What a run of the mixtures chapter is called in tables and figures, read off its Spec's fields."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.base import named


def method(result: Result) -> str:
    """The method of a ViT run, beginning with its router's name: ``"switch"``, ``"dense"``, ``"dense, wide"``, ``"ewa"``."""
    fields = result.fields
    if fields.get("teacher.moe.router"):
        return "distillation from Switch"
    if fields.get("moe.router") is None:
        return "dense, wide" if fields.get("widening", 1) > 1 else "dense"
    router = fields["moe.router"]
    if router == "partition" and fields["ewa_beta"]:
        return "ewa"
    if router in ("thor", "adamix") and not fields["consistency"]:
        return "adamix, one pass, no agreement" if router == "adamix" else "thor, no agreement"
    return router + gate(fields)


def gate(fields: dict) -> str:
    """What of a router's gate or table is not as usual."""
    own = {
        "switch": ("moe.single_gate", "share", ", gate by share"),
        "bias": ("moe.scores", "softmax", ", softmax"),
        "hash": ("moe.hash_by", "patch", ", by patch"),
    }
    field, value, words = own.get(fields["moe.router"], ("", None, ""))
    return words if field and fields.get(field) == value else ""


def with_experts(result: Result) -> str:
    """The method with its number of experts, and the dense model with how long it was trained."""
    experts = result.fields.get("moe.experts")
    return f"{method(result)}, {experts} experts" if experts else method(result)


def epoch_seconds(result: Result) -> float:
    """Training time of an epoch: the median one, since the first may compile and others may be disturbed."""
    return float(np.median(np.diff([0.0, *result.curves["seconds"]])))


def frame(results: Results, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.frame`."""
    return named.frame(results, name)


def curves(results: Results, *names: str, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.curves`."""
    return named.curves(results, *names, name=name)
