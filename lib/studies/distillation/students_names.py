"""What a student of the distillation chapter and its teacher are called in tables and figures, read off the Spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.runs.results import Result
from lib.studies.distillation.methods import METHODS, TOLD


def student(result: Result) -> str:
    """The method of a run of this chapter's students; seeds and geometries are not part of a name."""
    kind, spec = result.experiment, result.spec
    if kind == "distillation-plain":
        return "labels alone" + smoothed(spec)
    if kind == "distillation-pair":
        return TOLD[spec["method"]] + taught_by(spec) + detail(spec)
    return kind.removeprefix("distillation-")


def detail(spec: Mapping[str, Any]) -> str:
    """Temperature and α where a run sets them, and the teacher's view where it has its own."""
    usual = METHODS[spec["method"]]
    said = []
    if spec["temperature"] not in (None, usual.temperature):
        said.append(f"T = {spec['temperature']:g}")
    if spec["alpha"] not in (None, usual.weight):
        said.append(f"α = {spec['alpha']:g}")
    if spec["view"] != "same":
        said.append({"independent": "views of their own", "fixed": "teacher sees plain images"}[spec["view"]])
    if (spec["augmentation"] or {}).get("mixup"):
        said.append("mixup")
    return "".join(f", {part}" for part in said)


def taught_by(spec: Mapping[str, Any]) -> str:
    """Who taught, where that is not a normally trained network."""
    parent = spec["parent"]
    if parent["type"] == "PlainRun":
        return " of a teacher with smoothed labels" if smoothed(parent) else ""
    return {"NastyRun": " of a nasty teacher", "SkepticalRun": " of a skeptical student", "PairRun": " of a student"}[parent["type"]]


def smoothed(spec: Mapping[str, Any]) -> str:
    """What to add to the name of a network that was trained from smoothed labels."""
    return ", smoothed" if spec["recipe"]["label_smoothing"] else ""
