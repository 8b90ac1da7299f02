"""What a run of the distillation chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.runs.results import Result
from lib.studies.distillation.stories_sizes import ARMS
from lib.studies.distillation.students_names import student


def method(result: Result) -> str:
    """The method of a run; seeds and geometries are not part of a name."""
    spec = result.spec
    own = {
        "distillation-deit": deit,
        "distillation-sparse": sparse,
        "distillation-stories": story_teller,
        "moe-vit": mixture,
    }
    if result.experiment in own:
        return own[result.experiment](spec)
    return student(result)


#: What a transformer learns from its teacher.
KINDS = {"hard": "hard labels", "soft": "softened labels", "soft, numel": "softened labels, ÷ classes"}


def deit(spec: Mapping[str, Any]) -> str:
    teacher = spec["teacher"]
    pooled = spec["model"]["pool"] == "mean"  # without a class token, and so without another token, too
    start = "mean of tokens, " if pooled else ""
    if teacher is None:
        return start + "labels alone"
    kind = KINDS[spec["kind"]]
    said = [kind if spec["token"] or pooled else f"{kind}, no token"]
    if teacher["type"] == "DeiTRun":
        said.append("transformer teacher")
    return start + ", ".join(said)


def mixture(spec: Mapping[str, Any]) -> str:
    if spec["moe"] is None:
        return f"dense, {spec['recipe']['epochs']} epochs"
    return f"switch, {spec['moe']['experts']} experts"


def sparse(spec: Mapping[str, Any]) -> str:
    """Switch's recipe, or which of its ingredients were left."""
    if not spec["weight"]:
        return "inherited weights, labels alone"
    said = ["distilled"]
    if spec["weight"] == 1:
        said.append("teacher alone")
    if not spec["inherit"]:
        said.append("fresh weights")
    return ", ".join(said)


def story_teller(spec: Mapping[str, Any]) -> str:
    """What a small GPT read and paid for."""
    return next(name for name, arm in ARMS.items() if arm == (spec["author"], spec["target"]))
