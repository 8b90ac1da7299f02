"""The pruning chapter's tables: structures, methods, tickets and controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from lib.measure.statistics import amount, number, percent, points, times
from lib.pruning.structure import imbalance
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, gains, grouped
from lib.studies.pruning.names import method
from lib.studies.pruning.page import FORMS, at_ratio, network_of, ratio_of, structure_of

#: Which smaller or faster form a structure has.
SMALLER = {
    "unstructured": "CSR from about 90 % zeros",
    "filter": "removed: a smaller dense network",
    "channel": "removed: a smaller dense network",
    "kernel": "positions per kernel, a ninth of them",
    "column": "fewer rows in im2col",
    "pattern": "needs a compiler of its own",
    "2:4": "tensor cores",
    "block": "BSR",
    "balanced": "64 equal parts",
}

#: Test accuracy of the published networks of this size, in per cent, by structure and ratio.
PUBLISHED = {
    ("unstructured", 50): 93.08,
    ("unstructured", 500): 90.95,
    ("unstructured", 1000): 89.51,
    ("kernel", 100): 92.11,
    ("kernel", 500): 88.28,
}


def structures(masks: Mapping[str, Tensor], scores: Tensor) -> pd.DataFrame:
    """Return a row per structure: what its mask keeps, of the best possible sum of scores too, its imbalance and its form."""
    rows = []
    for name, mask in masks.items():
        best = scores.flatten().topk(int(mask.sum())).values.sum()
        rows.append(
            {
                "structure": name,
                "kept": f"{mask.float().mean():.1%}",
                "of the best possible sum": f"{scores[mask].sum() / best:.0%}",
                "imbalance": f"{imbalance(mask):.2f}",
                "form": SMALLER[name],
            }
        )
    return pd.DataFrame(rows)


def collapsed(results: Results) -> pd.DataFrame:
    """Return a row per score and a column per ratio: empty layers where there are any, else the share of weights on a path, and the accuracy."""
    rows = []
    for name, own in grouped(results, method).items():
        row = {"score": name}
        for density in sorted({r.spec["density"] for r in own}, reverse=True):
            found = [r.metrics for r in own if r.spec["density"] == density]
            empty = sorted({m["empty_layers"] for m in found})
            state = (
                f"{'–'.join(dict.fromkeys(map(str, (empty[0], empty[-1]))))} empty"
                if empty[-1]
                else f"{np.mean([m['on_paths'] / m['weights'] for m in found]):.0%} on paths"
            )
            row[f"{1 / density:,.0f}×"] = f"{state} ({np.mean([m['test_accuracy'] for m in found]):.1%})"
        rows.append(row)
    return pd.DataFrame(rows)


def on_paths(runs: Iterable[Result]) -> list[float]:
    """Return the share of each run's weights that lie on a path from the input to the output."""
    return [r.metrics["on_paths"] / max(1, r.metrics["weights"]) for r in runs]


def trainers(results: Results) -> pd.DataFrame:
    """Return a row per training method."""
    return pd.DataFrame(
        [
            {
                "method": name,
                "compression": times([r.metrics["compression"] for r in runs]),
                "on paths": percent(on_paths(runs)),
                "smallest layer": f"{min(min(r.arrays['weights_by_layer']) for r in runs):,}",
                "test accuracy": percent(column(runs)),
                "seconds": number(column(runs, "train_seconds")),
            }
            for name, runs in grouped(results, method).items()
        ]
    )


def belongs(control: Result, ticket: Result) -> bool:
    """Return whether a control is one of this ticket's."""
    name = method(ticket).removeprefix("ticket")
    return method(control).endswith(name) or method(control) == method(ticket) + ", layer-wise"


def with_controls(tickets: Iterable[Result], controls: Results) -> pd.DataFrame:
    """Return a row per ticket and after it one for each of its controls, with the difference to it, paired by seed."""
    rows = []
    for name, own in grouped(tickets, method).items():
        rows.append(network(name, own) | {"to the ticket": "–"})
        for other in dict.fromkeys(method(c) for c in controls if belongs(c, own[0])):
            found = [c for c in controls if method(c) == other]
            rows.append(network(other, found) | {"to the ticket": points(gains(found, own))})
    return pd.DataFrame(rows)


def network(name: str, runs: list[Result]) -> dict[str, str]:
    """Return a network's row: its name, its weights, its test accuracy."""
    return {"network": name, "weights": f"{np.mean(column(runs, 'density')):.1%}", "test accuracy": percent(column(runs))}


def at_level(results: Results, name: str, level: int) -> dict[int, float | None]:
    """Return the test accuracy of these runs at a level, by seed."""
    return {r.fields["seed"]: dict(zip(r.curves["level"], r.curves["test_accuracy"])).get(level) for r in results if method(r) == name}


def barriers(found: Results, tickets: Results, controls: Results) -> pd.DataFrame:
    """Return a row per ticket and level: both barriers, and what the ticket is worth over the re-initialised one."""
    rows = []
    for name, level in dict.fromkeys((method(r), r.spec["level"]) for r in found if r.spec["level"]):
        of = name.removeprefix("ticket")
        mine, other = at_level(tickets, name, level), at_level(controls, "re-initialised" + of, level)
        gain = [mine[seed] - other[seed] for seed in mine if mine[seed] is not None and other.get(seed) is not None]
        rows.append(
            {
                "weights go back to": name.removeprefix("ticket, "),
                "barrier, dense": points(column([r for r in found if method(r) == "dense" + of], "test_barrier")),
                "barrier, ticket": points(column([r for r in found if method(r) == name], "test_barrier")),
                "ticket over re-initialised": points(gain) if gain else "–",
            }
        )
    return pd.DataFrame(rows)


def coarse(results: Results) -> pd.DataFrame:
    """Return a row per form of coarse ticket and level."""
    rows = []
    for name, level in dict.fromkeys((method(r), r.metrics["level"]) for r in results):
        runs = [r for r in results if method(r) == name and r.metrics["level"] == level]
        rows.append(
            {
                "network": name,
                "level": level,
                "weights": f"{np.mean(column(runs, 'density')):.0%}",
                "test accuracy": percent(column(runs)),
                "to dense": points([r.metrics["test_accuracy"] - r.metrics["dense_test_accuracy"] for r in runs]),
                "time, masked": times(column(runs, "masked_ratio")),
                "time, taken out": times(column(runs, "small_ratio")),
            }
        )
    return pd.DataFrame(rows)


def ratios(results: Results, published_weights: int) -> pd.DataFrame:
    """Return a row per method and ratio; the published figure where the network has ``published_weights``."""
    rows = []
    for name, ratio in dict.fromkeys((method(r), round(ratio_of(r), 3)) for r in results):
        runs = at_ratio(results, ratio, name)
        same = runs[0].metrics["all_weights"] == published_weights
        told = PUBLISHED.get((structure_of(runs[0]), round(ratio))) if same else None
        rows.append(
            {
                "method": name,
                "compression": f"{ratio:g}×",
                "weights": amount(np.mean(column(runs, "weights"))),
                "on paths": percent(on_paths(runs)),
                "test accuracy": percent(column(runs)),
                "published": f"{told} %" if told else "–",
            }
        )
    return pd.DataFrame(rows)


def speeds(results: Results) -> pd.DataFrame:
    """Return a row per run: times of each form over the dense network's, with their percentiles over rounds."""
    rows = []
    for r in results:
        m = r.metrics
        told = {
            name: f"{m[f'{form}_ratio']:.2f} ({m[f'{form}_ratio_p05']:.2f} to {m[f'{form}_ratio_p95']:.2f})" for form, name in FORMS.items()
        }
        rows.append({"network": network_of(r), "weights": f"{r.spec['density']:.0%}", "dense": f"{m['dense_ms']:.2f} ms", **told})
    return pd.DataFrame(rows)
