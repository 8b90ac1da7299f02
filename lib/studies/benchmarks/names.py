"""What the networks of the benchmarks chapter are called, which section of the book treats them, and the command that makes each of them.

Everything is read from a run's settings as they stand in its result (:attr:`lib.runs.results.Result.spec`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import pandas as pd

from lib.runs.results import Result
from lib.studies import section

FAMILIES = {"vit": "transformer", "cnn": "convolutional network"}

#: Method (see :data:`lib.figures.theme.METHODS`) and section, as a link between pages, by a run's last step.
PLACES = {
    "Dense": ("dense", section("benchmarks", "task")),
    "Switch": ("switch", section("moe", "switch")),
    "Averaged": ("ewa", section("moe", "random")),
    "Elastic": ("elastic", section("elastic")),
    "Grown": ("growth", section("growth")),
    "Prune": ("pruning", section("pruning", "training")),
    "Remove": ("pruning", section("pruning", "structures")),
    "Quantize": ("quantization", section("pruning", "quantization")),
    "Distil": ("distillation", section("distillation", "hinton")),
    "Exits": ("early_exit", section("teachers", "exits")),
    "Replace": ("privacy", section("privacy", "budget")),
    "combined": ("combined", section("benchmarks", "orders")),
}


def name(spec: Mapping[str, Any]) -> str:
    """What a run is called in tables and figures, without its family."""
    if "stages" not in spec:
        return method_name(spec["method"])
    cut = [f"elastic, {spec['cut']}"] if spec["cut"] is not None else []
    return " → ".join(cut + [stage_name(stage) for stage in spec["stages"]])


def method_name(method: Mapping[str, Any]) -> str:
    match method:
        case {"type": "Dense", "size": 1, "inner": 1}:
            return "dense"
        case {"type": "Dense", "size": size, "inner": 1}:
            return f"dense, {share(size)} width"
        case {"type": "Dense", "inner": inner}:
            return f"dense, {share(inner)} of the inner units"
        case {"type": "Switch", "experts": experts}:
            return f"Switch, {experts} experts"
        case {"type": "Averaged", "experts": experts}:
            return f"EWA, {experts} experts merged"
        case {"type": "Elastic"}:
            return "elastic"
        case {"type": "Grown", "growth": growth}:
            return "grown deeper" if any(step["type"] == "Deepen" for step in growth) else "grown wider"
    raise ValueError(f"no name is known for the method {method}: give it one in {__name__}")


def stage_name(stage: Mapping[str, Any]) -> str:
    match stage:
        case {"type": "Prune", "structure": "unstructured", "density": density}:
            return f"pruned to {share(density)}"
        case {"type": "Prune", "structure": structure}:
            return f"pruned {structure}"
        case {"type": "Remove", "keep": keep}:
            return f"{share(1 - keep)} of the inner units removed"
        case {"type": "Quantize", "bits": bits}:
            return f"{bits} bits"
        case {"type": "Distil", "size": None}:
            return "distilled"
        case {"type": "Distil", "size": size}:
            return f"distilled into {share(size)} width"
        case {"type": "Replace", "budget": budget}:
            return f"{share(budget)} of the ReLUs"
        case {"type": "Exits"}:
            return "early exits"
    raise ValueError(f"no name is known for the stage {stage}: give it one in {__name__}")


def share(value: float) -> str:
    """``1/4`` for 0.25, ``10 %`` for what is not a simple fraction."""
    part = Fraction(value).limit_denominator(9)
    return f"{part.numerator}/{part.denominator}" if abs(float(part) - value) < 1e-6 else f"{100 * value:g} %"


def place(spec: Mapping[str, Any]) -> tuple[str, str]:
    """The method that the run is about and where the book treats it."""
    stages = spec.get("stages", ())
    if len(stages) > 1 or stages and spec["cut"] is not None:
        return PLACES["combined"]
    return PLACES[stages[0]["type"] if stages else start(spec)["method"]["type"]]


def start(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the run that trains from new weights: the parent of a chain."""
    return spec.get("parent", spec)


def family(spec: Mapping[str, Any]) -> str:
    return start(spec)["family"]


def frame(results: Iterable[Result], scale: str) -> pd.DataFrame:
    """One row per run: name, family, method, link, the command that makes it, seed, key, and all its metrics."""
    return pd.DataFrame([row(result, scale) for result in results])


def row(result: Result, scale: str) -> dict[str, Any]:
    spec = result.spec
    method, link = place(spec)
    return {
        "name": name(spec),
        "family": family(spec),
        "method": method,
        "link": link,
        "command": f"python -m lib run benchmarks --scale {scale} --key {result.key}",
        "seed": spec["seed"],
        "key": result.key,
        **result.metrics,
    }
