"""The frames that the elastic chapter's figures draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lib.data.images import CLASS_NAMES
from lib.runs.results import Result, Results
from lib.studies.elastic.names import method
from lib.studies.elastic.page import SIZES_TOLD, named, of_size


def by_size(results: Results, names: Iterable[str], twins: Results) -> pd.DataFrame:
    """Return a row per sub-network of these methods, and one per twin: ``parameters`` in thousands and ``accuracy``."""
    rows = [
        {
            "method": method(r),
            "size": told,
            "parameters": r.metrics[f"parameters_{size}"] / 1e3,
            "seed": r.fields["seed"],
            "accuracy": r.metrics[f"test_accuracy_{size}"],
        }
        for r in named(results, *names)
        for size, told in SIZES_TOLD.items()
        if f"test_accuracy_{size}" in r.metrics
    ]
    rows += [
        {"method": "twins, trained alone", "parameters": r.metrics["parameters_large"] / 1e3, "accuracy": r.metrics["test_accuracy_large"]}
        for r in twins
    ]
    return pd.DataFrame(rows)


def halves(subsets: Results) -> pd.DataFrame:
    """Return the validation ``accuracy`` with half of the experts, by which half is ``kept``."""
    return pd.DataFrame(
        [
            {"method": method(r), "kept": f"experts: {policy}", "accuracy": r.metrics[f"experts_{policy}"]}
            for r in subsets
            for policy in ("prefix", "random", "importance")
        ]
    )


def class_maps(run: Result) -> list[Any]:
    """Return the share of each class's gate weight by expert, in the whole network and in the small one."""
    return [[[cell / 1000 for cell in row] for row in run.arrays[name]] for name in ("by_class_whole", "by_class_small")]


def recovered(recovery: Results, twins: Results, ernie: Results) -> pd.DataFrame:
    """Return the ``accuracy`` of the small sub-network by what was trained further, and of its twin."""
    rows = [
        {"method": f"{method(r).split(',')[0]}: {what} trained", "accuracy": r.metrics["test_accuracy"]}
        for what in ("nothing", "routers", "everything")
        for r in recovery
        if r.fields["what"] == what
    ]
    small = of_size(twins, ernie, "small")
    return pd.DataFrame(rows + [{"method": "twin, trained alone", "accuracy": r.metrics["test_accuracy_large"]} for r in small])


def wall(results: Results, usual_k: int) -> pd.DataFrame:
    """Return the validation ``accuracy`` with ``k`` experts per token; networks trained at one k are called by it."""

    def called(result: Result) -> str:
        name = method(result)
        return f"fixed k={usual_k}" if name == "rigid" else name.replace("trained at", "fixed")

    return pd.DataFrame(
        [
            {"method": called(r), "k": k, "accuracy": value}
            for r in results
            for k, value in zip(r.arrays["wall_k"], r.arrays["wall_accuracy"])
        ]
    )


def widths(matformer: Results, mixed: Results, lengths: Results) -> pd.DataFrame:
    """Return a row per width of a nested network, per network on its own and per mixture, by ``parameters`` in thousands.

    lengths: the networks on their own that were trained for twice as long, among others.
    """
    rows = []
    for r in (*matformer, *(r for r in lengths if r.spec["moe"] is None)):
        sizes = [f"hidden_{h}" for h in r.spec["space"]["hidden"]] if r.spec["sampler"] else ["large"]
        alone = "dense, each on its own" + (", twice the steps" if r in lengths else "")
        name = method(r) if r.spec["sampler"] else alone
        rows += [
            {"method": name, "parameters": r.metrics[f"parameters_{size}"] / 1e3, "accuracy": r.metrics[f"test_accuracy_{size}"]}
            for size in sizes
        ]
    rows += [
        {"method": "mixtures, twice the steps", "parameters": row[1] / 1e3, "accuracy": row[3]}
        for r in mixed
        for row in r.arrays["mixtures"]
        if len(set(row[0])) > 1
    ]
    return pd.DataFrame(sorted(rows, key=lambda row: row["parameters"]))


def thresholds(results: Results) -> pd.DataFrame:
    """Return ``accuracy`` against ``flops`` as the router's threshold is turned, with random sizes, with one size, and dense."""
    rows = []
    for r in results:
        m, seed = r.metrics, r.fields["seed"]
        for who, suffix in (("router", ""), ("random sizes", "_random")):
            sweep = zip(r.arrays[f"sweep_relative_flops{suffix}"], r.arrays[f"sweep_val_accuracy{suffix}"])
            rows += [{"method": who, "flops": flops, "accuracy": accuracy, "seed": seed} for flops, accuracy in sweep]
        for size in r.spec["sizes"]:
            flops, accuracy = m[f"relative_flops_fixed_{size:g}"], m[f"val_accuracy_fixed_{size:g}"]
            rows.append({"method": "one size for all", "flops": flops, "accuracy": accuracy, "seed": seed})
        rows.append({"method": "dense, as it was", "flops": 1.0, "accuracy": m["dense_val_accuracy"], "seed": seed})
    return pd.DataFrame(rows)


def examples(run: Result) -> list[list[Any]]:
    """Return pictures, mean sizes by patch and titles of the two images with the least and of the two with the most."""
    names = CLASS_NAMES[run.provenance["data"]["name"]]
    titles = [
        names[right] if right == said else f"{names[right]}<br>(said {names[said]})"
        for right, said in zip(run.arrays["example_label"], run.arrays["example_prediction"])
    ]
    return [[found[i] for i in (0, 1, -2, -1)] for found in (run.arrays["example_png"], run.arrays["example_mean_size"], titles)]


def against_baselines(baselines: Results, samplers: Results, twins: Results) -> pd.DataFrame:
    """Return ``parameters`` and ``accuracy`` of each baseline, of the elastic networks' sub-networks and of twins."""
    rows = [(method(r), r, "parameters", "test_accuracy") for r in baselines]
    rows += [
        (f"elastic ({name})", r, f"parameters_{size}", f"test_accuracy_{size}")
        for name in ("ERNIE", "uniform")
        for r in named(samplers, name)
        for size in ("large", "medium", "small")
    ]
    rows += [("twins, trained alone", r, "parameters_large", "test_accuracy_large") for r in twins]
    return pd.DataFrame(
        [
            {"method": name, "parameters": r.metrics[parameters], "accuracy": r.metrics[accuracy], "seed": r.fields["seed"]}
            for name, r, parameters, accuracy in rows
        ]
    )


def grid(runs: Iterable[Result]) -> tuple[list[list[float | None]], list[int], list[int]]:
    """Return the mean validation accuracy by depth and experts at full k, the depths, and the numbers of experts."""
    cells: dict[tuple[int, int], list[float]] = {}
    for r in runs:
        full_k = max(row[4] for row in r.arrays["grid"])
        for depth, _heads, _hidden, experts, k, *_, accuracy in r.arrays["grid"]:
            if k == full_k:
                cells.setdefault((depth, experts), []).append(accuracy)
    depths, counts = sorted({d for d, _ in cells}), sorted({e for _, e in cells})
    return [[float(np.mean(cells[d, e])) if (d, e) in cells else None for e in counts] for d in depths], depths, counts
