"""What a run of the growth chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.base import named

#: How a symmetry is written after "width".
SYMMETRIES = {
    "Even": lambda of: "equal copies",
    "Noise": lambda of: f"noise {of['db']:g} dB",
    "Uneven": lambda of: f"unequal shares {of['alpha']:g}",
}


def method(result: Result) -> str:
    """How a network came about: from scratch, or by which growth; the pipeline's are called by their steps.

    Seeds, budgets and the time of growth are not part of a name.
    """
    return of_spec(result.spec)


def of_spec(spec: dict[str, Any]) -> str:
    """The name of a run, from the fields of its ``GrowthRun``."""
    if spec["parent"] is None:
        return "dense, from scratch" if spec["model"]["moe"] is None else "experts, from scratch"
    steps = ordered(spec)
    if len(steps) > 1:
        return " → ".join(steps)
    return (operator(spec["growth"][0]) if spec["growth"] else "dense, trained on") + how_trained(spec)


def ordered(spec: dict[str, Any]) -> list[str]:
    """The steps by which a network grew, the first one first: "experts", "width", "depth"."""
    kinds = {"Upcycle": "experts", "Deepen": "depth", "Net2Wider": "width"}
    before = ordered(spec["parent"]) if spec["parent"] else []
    return before + [kinds.get(one["type"], "width") for one in spec["growth"]]


def operator(growth: dict[str, Any]) -> str:
    kind = growth["type"]
    if kind == "Deepen":
        return {
            "interleaved": "depth, silent between",
            "top": "depth, silent on top",
            "stack": "depth, stacked",
            "interpose": "depth, interposed",
            "copy-last": "depth, last block again",
        }[growth["how"]]
    if kind == "Upcycle":
        return "experts" + upcycled(growth)
    if kind == "Net2Wider":
        return "FFN width, Net2Net"
    if kind == "TiedFault":
        return "width, tied fault"
    if kind == "NoiseFault":
        return "width, noise fault"
    symmetry = growth["symmetry"]
    return f"width, {SYMMETRIES[symmetry['type']](symmetry)}"


def upcycled(growth: dict[str, Any]) -> str:
    if growth["moe"]["router"] == "vmoe":
        return ", plain gates"
    if growth["drop"]:
        return f", {growth['drop']:.0%} re-drawn"
    if growth["moe"]["split"] > 1:
        return f", {growth['moe']['split']} groups"
    return {1.0: "", 0.0: ", zero router"}.get(growth["router_scale"], f", router {growth['router_scale']:g}")


def how_trained(spec: dict[str, Any]) -> str:
    """What is not as usual: fresh moments, learning rates, no warm-up, other parameters."""
    parts = []
    if spec["moments"] == "fresh":
        parts.append("fresh moments")
    if spec["rates"] == "kept":
        parts.append("rates kept")
    if spec["recipe"]["warmup"] == 0:
        parts.append("no warm-up")
    if spec["recipe"]["lr"] < spec["parent"]["recipe"]["lr"]:
        parts.append("lower rate")
    if spec["trained"] == "new blocks":
        parts.append("new blocks only")
    if dropout := first_network(spec).get("dropout"):
        parts.append(f"dropout {dropout:g}")
    return "".join(f", {part}" for part in parts)


def first_network(spec: dict[str, Any]) -> dict[str, Any]:
    """The geometry from which a network grew."""
    while spec["model"] is None:
        spec = spec["parent"]
    return spec["model"]


def share(result: Result) -> float:
    """The part of the compute that was spent before the last growth, in [0, 1)."""
    return 1 - result.metrics["flops"] / result.metrics["total_flops"]


def frame(results: Results, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.frame`."""
    return named.frame(results, name)
