"""The frames that the pruning chapter's figures draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from lib.pruning.cocktail import PATTERNS
from lib.runs.results import Result, Results
from lib.studies.pruning.names import frame, method
from lib.studies.pruning.page import FORMS, of_experiment, pruned_to, ratio_of

#: What a network of the search for widths is called; the others were drawn at random.
FOUND = {"winner": "searched", "uniform": "uniform"}


def layer_shares(layers: pd.DataFrame) -> pd.DataFrame:
    """Return each layer's share of the weights and of the multiplications, in the columns ``layer``, ``method``, ``share``."""
    shares = layers.assign(weights=layers.weights / layers.weights.sum(), multiplications=layers.uses / layers.uses.sum())
    # Row by row, both of a layer one after the other.
    return shares.melt("layer", ["weights", "multiplications"], "method", "share", ignore_index=False).sort_index(kind="stable")


def kept_by_layer(budgets: Mapping[str, Mapping[str, int]], weights: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return the ``density`` of each ``layer`` by the rule (``method``) that divides the budget; none for a layer without weights."""
    return pd.DataFrame(
        [
            {"method": rule, "layer": place + 1, "density": kept / weights[name].numel()}
            for rule, divided in budgets.items()
            for place, (name, kept) in enumerate(divided.items())
            if kept
        ]
    )


def trained_layers(results: Results) -> pd.DataFrame:
    """Return the ``density`` of each ``layer`` of each run at the end; none for a layer without weights."""
    return pd.DataFrame(
        [
            {"method": method(r), "seed": r.fields["seed"], "layer": place + 1, "density": kept / whole}
            for r in results
            for place, (kept, whole) in enumerate(zip(r.arrays["weights_by_layer"], r.arrays["all_weights_by_layer"]))
            if kept
        ]
    )


def levels_of(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row for each level of each run of tickets or controls."""
    return pd.DataFrame(
        [
            {"method": method(r), "seed": r.fields["seed"], "density": round(share, 4), "accuracy": accuracy}
            for r in results
            if "density" in r.curves and "level" in r.curves
            for share, accuracy in zip(r.curves["density"], r.curves["test_accuracy"])
        ]
    )


def from_whole(runs: Iterable[Result], results: Results) -> pd.DataFrame:
    """Return :func:`levels_of` the runs, each beginning with the dense network that it was made from, where it is there."""
    dense = of_experiment(results, "dense")
    whole = [
        {"method": method(r), "seed": r.fields["seed"], "density": 1.0, "accuracy": parent.metrics["test_accuracy"]}
        for r in runs
        for parent in [next((d for d in dense if d.spec == r.spec["parent"]), None)]
        if parent is not None
    ]
    return pd.concat([pd.DataFrame(whole), levels_of(runs)])


def ending_above(levels: pd.DataFrame, accuracy: float) -> list[str]:
    """Return the methods whose smallest share of weights ends above this accuracy."""
    return [name for name, part in levels.groupby("method") if part[part.density == part.density.min()].accuracy.mean() > accuracy]


def rewound_like(tickets: Results, shot: Results) -> list[Result]:
    """Return the tickets that go back to a later step, of the seeds that the one-shot runs have, and those runs."""
    seeds = {r.fields["seed"] for r in shot}
    return [*(r for r in of_experiment(tickets, "tickets") if r.spec["rewind"] and r.fields["seed"] in seeds), *shot]


def along_the_line(results: Results) -> pd.DataFrame:
    """Return the test ``error`` at each ``step`` of the way from the first copy to the second."""
    return pd.DataFrame(
        [
            {"method": method(r), "step": part, "error": error, "seed": r.fields["seed"]}
            for r in results
            for part, error in zip(r.curves["part"], r.curves["test_error"])
        ]
    )


def searched(results: Results) -> pd.DataFrame:
    """Return a row per network of the search: ``accuracy`` after training, and as ``predicted`` with generated weights."""
    return pd.DataFrame(
        [
            {
                "method": FOUND.get(net["name"], "random"),
                "predicted": net["predicted"],
                "accuracy": net["test_accuracy"],
                "widths": f"{'-'.join(map(str, net['widths']))}, seed {r.fields['seed']}",
            }
            for r in results
            for net in r.arrays["networks"]
        ]
    )


def cocktail_networks(results: Results) -> pd.DataFrame:
    """Return a row per sparse network that wears merged weights, named by its pattern and the training."""
    return pd.DataFrame(
        [
            {"method": f"{pattern}, {method(r)}", "density": round(share, 3), "accuracy": accuracy}
            for r in results
            for pattern, shares, accuracies in zip(PATTERNS, r.arrays["density"], r.arrays["test_merged"])
            for share, accuracy in zip(shares, accuracies)
        ]
    )


def cocktail_means(results: Results) -> pd.DataFrame:
    """Return a row per run with the mean ``accuracy`` of all its sparse networks with merged weights."""
    return pd.DataFrame(
        [
            (method(r), r.fields["seed"], float(np.mean([value for accuracies in r.arrays["test_merged"] for value in accuracies])))
            for r in results
        ],
        columns=["method", "seed", "accuracy"],
    )


def parts_of_files(files: dict[str, list[Result]], usual: float) -> tuple[pd.DataFrame, list[Result]]:
    """Return ``bytes`` of each ``part`` of the files at the ``usual`` ratio, and these files."""
    drawn = [
        (name, r) for name, runs in files.items() for r in runs if (ratio := pruned_to(r.spec["parent"])) and abs(ratio / usual - 1) < 0.02
    ]
    rows = [
        {"network": name, "part": part, "seed": r.fields["seed"], "bytes": r.metrics[f"bytes_{part}"]}
        for name, r in drawn
        for part in ("codes", "positions", "codebooks", "norms", "header")
    ]
    return pd.DataFrame(rows), [r for _, r in drawn]


def by_ratio(results: Results) -> pd.DataFrame:
    """Return a row per run with its ``ratio`` of compression."""
    return frame(results).assign(ratio=[round(ratio_of(r), 3) for r in results])


def times_of(results: Iterable[Result]) -> pd.DataFrame:
    """Return the time of each form over the dense network's (``ratio``) by ``density``."""
    return pd.DataFrame(
        [
            {"method": name, "density": r.spec["density"], "ratio": r.metrics[f"{form}_ratio"]}
            for r in results
            for form, name in FORMS.items()
        ]
    )
