"""The elastic chapter's tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.elastic.config import PRESETS
from lib.measure.statistics import amount, percent
from lib.runs.results import Result, Results
from lib.studies.base.picked import column
from lib.studies.elastic.page import COST_NAMES, in_turns, methods, named, of_size, over_seeds

#: ERNIE's validation losses of a mixture with 64 experts: ordinary training, elastic training, and with less of the axis.
ERNIES = {
    "depth": ("1.945", "1.941", "12 of 16 layers: 2.137"),
    "experts": ("1.957", "1.964", "32 of 64: 2.218"),
    "k": ("1.945", "1.969", "4 of 8: 1.971, 2: 2.003, 1: 2.175"),
}

#: Who nominates sub-networks.
WHO = ("search", "random", "uniform")


def presets(run: Result) -> pd.DataFrame:
    """Return a row per named size of this network, counted from the size alone."""
    m, rows = run.metrics, []
    for name in (*PRESETS, "smallest", "budget"):
        if f"size_{name}" in m:
            parts = [
                f"{amount(m[f'{what}_{name}'])} ({m[f'{what}_{name}'] / m[f'{what}_large']:.1%})"
                for what in ("parameters", "active_parameters", "flops")
            ]
            told = "budget: ≤ 36 % of all, ≤ 54 % of active parameters (first seed)" if name == "budget" else name
            rows.append((told, m[f"size_{name}"], *parts))
    return pd.DataFrame(rows, columns=["size", "what it is", "parameters", "active parameters", "FLOPs per image"])


def extracted(cut: Results) -> pd.DataFrame:
    """Return a row per size that was cut out: largest difference of a logit, parameters, file, latencies."""
    m = cut[0].metrics  # parameters and bytes are those of all seeds
    batches = sorted({int(name.split("_")[2]) for name in m if name.startswith("latency_ms_")})

    def latencies(name: str) -> dict[str, str]:
        return {
            f"latency, batch {batch}": f"{np.mean(column(cut, f'latency_ms_{batch}_{name}')):.2f} ms, "
            + in_turns(cut, f"latency_{batch}_{name}_")
            for batch in batches
        }

    rows = [
        {
            "size": name,
            "difference": f"{max(column(cut, f'difference_{name}')):.0e}",
            "parameters": f"{m[f'parameters_{name}'] / m['parameters_large']:.1%}",
            "file": f"{m[f'bytes_{name}'] / m['bytes_large']:.1%}",
            **latencies(name),
        }
        for name in PRESETS
    ]
    whole = {"size": "small, within the whole", "difference": "–", "parameters": "100.0%", "file": "100.0%"}
    return pd.DataFrame([*rows, whole | latencies("inside")])


def steps(samplers: Results, paces: Results) -> pd.DataFrame:
    """Return a row per sampler: what a step costs, counted and timed, and how many there were."""
    rows = []
    for name in methods(samplers):
        m = named(samplers, name)[0].metrics
        rows.append((name, f"{m['step_cost']:.2f}×", in_turns(named(paces, name)), f"{m['steps']:,}"))
    return pd.DataFrame(rows, columns=["sampler", "compute of a step", "time of a step", "steps"])


def twin_rows(twins: Results, whole: Results) -> pd.DataFrame:
    """Return a row for the medium and the small twin, with its accuracy in the column of its size."""
    return pd.DataFrame(
        [
            {"method": f"twin: {size}", size: percent(column(found, "test_accuracy_large"))}
            for size in ("medium", "small")
            if (found := of_size(twins, whole, size))
        ]
    )


def one_axis(axes: Results) -> pd.DataFrame:
    """Return a row per axis that was made elastic by itself, beside ERNIE's losses."""
    rows = []
    for axis, (base, full, less) in ERNIES.items():
        runs = named(axes, f"ERNIE, {axis} only")
        if not len(runs):
            continue
        found = sorted((int(name.rsplit("_", 1)[1]) for name in runs[0].metrics if name.startswith(f"test_accuracy_{axis}_")), reverse=True)
        reduced = "; ".join(f"{value} of {found[0]}: {percent(column(runs, f'test_accuracy_{axis}_{value}'))}" for value in found[1:])
        usual, elastic = (percent(column(one, "test_accuracy_large")) for one in (named(axes, "rigid"), runs))
        rows.append((axis, f"{base} → {full}", less, usual, elastic, reduced))
    titles = ["elastic", "paper: whole", "paper: less", "rigid", "elastic training", "elastic training, with less"]
    return pd.DataFrame(rows, columns=titles)


def sorted_cuts(subsets: Results) -> pd.DataFrame:
    """Return a row per network and cut: accuracy with the first heads or units, and after sorting."""
    rows = []
    for name in methods(subsets):
        runs = named(subsets, name)
        for cut in ("two_thirds", "one_third"):
            names = [f"{axis}_{cut}_{order}" for axis in ("heads", "hidden") for order in ("as_trained", "by_importance")]
            rows.append((name, cut.replace("_", " "), *(percent(column(runs, metric)) for metric in names)))
    titles = ["network", "kept", "heads, as trained", "heads, sorted", "units, as trained", "units, sorted"]
    return pd.DataFrame(rows, columns=titles)


def nominated(found: Iterable[Result]) -> pd.DataFrame:
    """Return a row per nominee within a budget, with its ``seed``."""
    return pd.concat([pd.DataFrame(r.arrays["budgets"]).assign(seed=r.fields["seed"]) for r in found])


def budgets(nominees: pd.DataFrame) -> pd.DataFrame:
    """Return a row per cost and budget: what the predictor promised of the nominees and what they are."""
    rows = []
    for (name, budget), part in nominees.groupby(["cost", "budget"], sort=False):
        told = [
            percent(values) if len(values := part.loc[part.method == who, what].dropna()) else "–"
            for who, what in (
                ("search", "predicted_accuracy"),
                ("search", "val_accuracy"),
                ("random", "val_accuracy"),
                ("uniform", "val_accuracy"),
                ("search", "test_accuracy"),
            )
        ]
        rows.append((COST_NAMES[name], f"{budget:.0%}", *told))
    return pd.DataFrame(rows, columns=["budget of", "at most", "search, predicted", "search", "random", "uniform", "search, test"])


def fronts(found: Results) -> pd.DataFrame:
    """Return the area under each front, as predicted and as measured."""
    rows = [
        (told, what, *(over_seeds(found, f"{prefix}hypervolume_{name}_{who}", digits=4) for who in WHO))
        for name, told in COST_NAMES.items()
        for what, prefix in (("predicted", ""), ("measured", "measured_"))
    ]
    return pd.DataFrame(rows, columns=["cost", "accuracy", *WHO])


def beside_baselines(baselines: Results, samplers: Results, twins: Results, cut: Results) -> pd.DataFrame:
    """Return a row per network: accuracy, size, compute of an image and of the training, latency where it was measured."""

    def row(name: str, runs: Results | list[Result], size: str, latency: str = "–") -> tuple[str, ...]:
        names = (f"parameters{size}", f"flops{size or '_per_image'}", "train_flops")
        return name, percent(column(runs, f"test_accuracy{size}")), *(amount(runs[0].metrics[metric]) for metric in names), latency

    rows = []
    for name in methods(baselines):
        runs = named(baselines, name)
        rows.append(row(name, runs, "", f"{np.median(column(runs, 'latency_ms_1')):.2f} ms"))
    timed = cut[0].metrics if len(cut) else {}
    for name in ("ERNIE", "uniform"):
        for size in ("large", "medium", "small"):
            latency = f"{timed[f'latency_ms_1_{size}']:.2f} ms" if timed else "–"
            rows.append(row(f"elastic ({name}), {size}", named(samplers, name), f"_{size}", latency))
    for r in {r.metrics["parameters_large"]: r for r in twins}.values():
        alike = [t for t in twins if t.metrics["parameters_large"] == r.metrics["parameters_large"]]
        rows.append(row("twin, " + r.metrics["size_large"], alike, "_large"))
    titles = ["network", "test accuracy", "parameters", "FLOPs per image", "training FLOPs", "latency, batch 1"]
    return pd.DataFrame(rows, columns=titles)
