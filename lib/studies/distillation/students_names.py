"""What a student of the distillation chapter and its teacher are called in tables and figures, read off the Spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.runs.results import Result
from lib.studies.distillation.methods import METHODS, TOLD


def student(result: Result) -> str:
    """The method of a run of this chapter's students; seeds and geometries are no part of a name."""
    kind, spec = result.experiment, result.spec
    if kind == "distillation-plain":
        return "labels alone" + smoothed(spec)
    if kind == "distillation-nasty":
        return "nasty teacher"
    if kind == "distillation-pair":
        return TOLD[spec["method"]] + taught_by(spec) + detail(spec)
    if kind == "distillation-skeptical":
        if not spec["alpha"]:
            return "skeptical student, labels alone"
        return "skeptical student" + taught_by(spec) + (f", listener {spec['listener'] + 1}" if spec["listener"] else "")
    if kind == "distillation-zero-shot":
        name = "skeptical zero-shot student" if spec["places"] else "zero-shot student"
        return name + taught_by(spec) + ("" if spec["beta"] or spec["places"] else ", answers alone")
    if kind == "distillation-transition":
        return student(Result(f"distillation-{'zero-shot' if 'beta' in spec['parent'] else 'pair'}", "", spec["parent"], {}, {}, {}, {}))
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


def teacher(result: Result) -> str:
    """The kind of the run's teacher: "normal", "nasty", "skeptical" or "student"; "none" for a network without one."""
    parent = result.spec.get("parent")
    return (
        "none"
        if parent is None
        else {"PlainRun": "normal", "NastyRun": "nasty", "SkepticalRun": "skeptical", "PairRun": "student"}[parent["type"]]
    )
