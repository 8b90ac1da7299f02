"""The frames that the growth chapter's figures draw: losses along the compute, by step, by budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.growth.names import frame, method, share
from lib.studies.growth.page import budgets
from lib.studies.growth.paths import lineage, path
from lib.studies.growth.saving import is_sparse
from lib.studies.growth.studies import Plan


def losses(grown: Iterable[Result], alone: Iterable[Result], known: Results, loss: str, name: str = "") -> pd.DataFrame:
    """Return ``loss`` along the compute of grown runs through all their phases, and of runs that stand alone.

    name: what the grown ones are called, if not by their method.
    """
    rows = [path(lineage(r, known), loss).assign(method=name or method(r)) for r in grown]
    return pd.concat(rows + [path([r], loss).assign(method=method(r)) for r in alone])


def moments_of_growth(run: Result, pipeline: Results) -> list[int]:
    """Return the compute spent at each transition of a run."""
    spent, found = 0, []
    for phase in lineage(run, pipeline)[:-1]:
        spent += phase.metrics["flops"]
        found.append(spent)
    return found


def jumps(main: Sequence[Result], pipeline: Results) -> list[float]:
    """Return by how much the loss moves at each transition."""
    return [abs(phase.metrics["loss_after"] - phase.metrics["loss_before"]) for r in main for phase in lineage(r, pipeline)[1:]]


def by_budget(results: Results, dense: Result, plan: Plan) -> pd.DataFrame:
    """Return a row per run with its compute ``of the budget``; smaller networks from scratch are called by their size."""

    def called(r: Result) -> str:
        small = r.spec["model"] and r.spec["parent"] is None and r.spec["model"] != dense.spec["model"] and not is_sparse(r)
        return f"dense, {r.spec['model']['depth']} × {r.spec['model']['width']}, from scratch" if small else method(r)

    return frame(results, called).assign(**{"of the budget": [budgets(r, plan) for r in results]})


def by_share(results: Results) -> pd.DataFrame:
    """Return a row per run with the ``share`` of its compute before growth."""
    return frame(results).assign(share=[round(share(r), 2) for r in results])


def along(results: Iterable[Result], curve: str, plan: Plan) -> pd.DataFrame:
    """Return a row per point of a curve with the compute ``spent``, of the budget."""
    rows = []
    for r in results:
        values = r.curves.get(curve) or ()
        before = r.metrics["total_flops"] - r.metrics["flops"]
        for i, value in enumerate(values, start=1):
            spent = round((before + r.metrics["flops"] * i / len(values)) / plan.budget, 3)
            rows.append({"method": method(r), "seed": r.fields["seed"], "spent": spent, curve: value})
    return pd.DataFrame(rows)


def languages(results: Iterable[Result]) -> pd.DataFrame:
    """Return two rows per run: ``bits per byte`` on the old and on the new language."""
    return pd.DataFrame(
        [
            {"method": method(r), "language": language, "bits per byte": r.metrics[metric], "seed": r.fields["seed"]}
            for r in results
            for language, metric in (("old", "old_test_bits_per_byte"), ("new", "test_bits_per_byte"))
        ]
    )
