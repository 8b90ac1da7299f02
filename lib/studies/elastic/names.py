"""What a run of the elastic chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lib.elastic.config import AXES, Space
from lib.runs.results import Result, Results
from lib.studies.base import named
from lib.studies.elastic.studies import SIZES

#: Depth of the whole network by the width of its transformer: what tells a twin, which is cut, from the whole network
#: trained at another k.
WHOLE_DEPTH = {size.base["d_model"]: size.geometry.depth for size in SIZES.values()}


def method(result: Result) -> str:
    """The method of a run: its sampler, or what it is where it has none; of its parent where it has one.

    ``"rigid"`` is the whole network trained as usual.  Seeds are not part of a name.
    """
    spec = result.spec
    if result.experiment == "elastic-cnn":
        return "distillation" if spec["teacher"] else f"CNN, {spec['size']}"
    if result.experiment == "elastic-pruned":
        return "pruning"
    if result.experiment == "elastic-dynamic":
        return "dynamic"
    if result.experiment == "elastic-recovery":
        return f"{network(spec['parent'])}, {spec['what']} trained"
    return network(spec.get("parent", spec))


def network(spec: dict[str, Any]) -> str:
    """The name of a transformer's training, from the fields of its ``ElasticRun`` or of its ``SamplerCost``."""
    if spec["sampler"] is None:
        name = without_sampler(spec)
    else:
        name = with_sampler(spec["sampler"], elastic_axes(spec["space"]))
        if spec["sampler"]["type"] == "Nested" and spec["equal"] == "steps":
            name += ", twice the steps"
    return name + gate(spec["moe"])


def with_sampler(sampler: dict[str, Any], axes: list[str]) -> str:
    kind = sampler["type"]
    if kind == "ERNIE":
        first = ", first experts" if sampler["policy"]["experts"] == "prefix" else ""
        return f"ERNIE{first}" + (f", {axes[0]} only" if len(axes) == 1 else "")
    if kind == "Uniform":
        several = sampler.get("networks", 1)  # results of the first edition do not know the field
        return "one k per step" if axes == ["k"] else f"uniform, {several} per step" if several > 1 else "uniform"
    if kind == "Sandwich":
        late = f", distilled after {sampler['after']:.0%}" if sampler.get("after") else ""
        return f"sandwich{late}" if sampler["distil"] else "sandwich, labels only"
    if kind == "Weighted":
        if not sampler["phases"]:
            return "project's weights"
        return "project's phases, equal ones merged" if sampler["merge"] else "project's phases"
    return {
        "Progressive": "progressive shrinking",
        "LayerwiseK": "layer-wise k",
        "CoActivation": "co-activation",
        "Nested": "nested widths",
    }[kind]


def without_sampler(spec: dict[str, Any]) -> str:
    size = Space(*(tuple(spec["space"][axis]) for axis in AXES)).largest
    if spec["moe"] is None:
        return f"dense, width {size.hidden}"
    if spec["offered"]:
        return "rigid"
    return f"trained at k={size.k}" if size.depth == WHOLE_DEPTH.get(spec["d_model"]) else f"twin, {size.label}"


def gate(moe: dict[str, Any] | None) -> str:
    """What a mixture's router or gate has that is not as usual in this chapter."""
    if moe is None:
        return ""
    if moe["router"] == "bias":
        return ", loss-free bias"
    return ", gate p" if moe["single_gate"] == "probability" else ""


def elastic_axes(space: dict[str, Any]) -> list[str]:
    return [axis for axis in AXES if len(space[axis]) > 1]


def frame(results: Results, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.frame`."""
    return named.frame(results, name)


def curves(results: Results, *names: str, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.curves`."""
    return named.curves(results, *names, name=name)
