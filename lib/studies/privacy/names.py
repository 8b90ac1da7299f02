"""What a run of the privacy chapter is called in tables and figures, read off its Spec."""

from __future__ import annotations

import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.base import named

#: What replaces a ReLU, as the chapter says it.
POLYNOMIALS = {"identity": "identity (SNL)", "linear": "straight line", "quadratic": "DaPa", "released": "DaPa as released"}


def method(result: Result) -> str:
    """The method of a run; budgets and seeds are not part of a name."""
    spec = result.spec
    if result.experiment == "privacy-baseline":
        return "all ReLUs"
    if result.experiment == "privacy-shared":
        spec = spec["parent"]
    if result.experiment == "privacy-polynomials":
        return "polynomials"
    return replacement(spec) + masks(spec)


def replacement(spec: dict) -> str:
    name = POLYNOMIALS[spec["kind"]]
    return name if spec["trained"] or spec["kind"] == "identity" else f"{name}, fixed"


def masks(spec: dict) -> str:
    """Where the masks come from, where that is not as usual."""
    if spec["masks"] != "learnt":
        return {"random": ", random masks", "shuffled": ", shuffled masks"}[spec["masks"]]
    return "" if spec["hysteresis"] == 3 else f", hysteresis {spec['hysteresis']:g}"


def frame(results: Results, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.frame`."""
    return named.frame(results, name)


def curves(results: Results, *names: str, name=method) -> pd.DataFrame:
    """See :func:`lib.studies.base.named.curves`."""
    return named.curves(results, *names, name=name)
