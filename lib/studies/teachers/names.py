"""What a run of the teachers chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.runs.results import Result
from lib.studies.distillation.api import student as usual_student
from lib.studies.distillation.api import taught_by


def method(result: Result) -> str:
    """The method of a run; seeds and geometries are not part of a name."""
    if result.experiment == "distillation-exits":
        return exits(result.spec)
    if result.experiment == "distillation-thresholds":
        return "early exit"
    return student(result)


def student(result: Result) -> str:
    """The method of a student of a hostile or an absent teacher, or of the usual one."""
    kind, spec = result.experiment, result.spec
    if kind == "distillation-nasty":
        return "nasty teacher"
    if kind == "distillation-skeptical":
        if not spec["alpha"]:
            return "skeptical student, labels alone"
        return "skeptical student" + taught_by(spec) + (f", listener {spec['listener'] + 1}" if spec["listener"] else "")
    if kind == "distillation-zero-shot":
        name = "skeptical zero-shot student" if spec["places"] else "zero-shot student"
        return name + taught_by(spec) + ("" if spec["beta"] or spec["places"] else ", answers alone")
    if kind == "distillation-transition":
        return student(Result(f"distillation-{'zero-shot' if 'beta' in spec['parent'] else 'pair'}", "", spec["parent"], {}, {}, {}, {}))
    return usual_student(result)


def exits(spec: Mapping[str, Any]) -> str:
    """Self-distillation, by what is not as usual; without shallow classifiers it is the plain network."""
    if not spec["places"]:
        return "plain network"
    if not spec["alpha"] and not spec["weight"]:
        return "labels at every depth"
    said = [f"from {REFERENCES[spec['reference']]}"] if spec["reference"] != "deepest" else []
    said += ["no hints"] if not spec["weight"] else []
    said += ["no attention"] if not spec["attention"] else []
    return ", ".join(["self-distillation", *said])


#: What shallow classifiers learn from, as the chapter says it.
REFERENCES = {"deepest": "the deepest", "ensemble": "the ensemble", "transitive": "the next", "dense": "all deeper ones"}


def places(result: Result) -> str:
    """The blocks behind which shallow classifiers stand."""
    found = result.spec["places"]
    return "blocks " + ", ".join(map(str, found)) if len(found) > 1 else f"block {found[0]}" if found else "none"
