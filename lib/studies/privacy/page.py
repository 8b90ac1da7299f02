"""The private-inference chapter's runs as its cells pick them, and the frames that its figures draw."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from lib.privacy.polynomial import dapa, evaluate, expected_error
from lib.privacy.sharing import Parties, Shares, beaver
from lib.runs.results import Result, Results
from lib.studies.base.picked import column
from lib.studies.privacy.names import POLYNOMIALS, frame, method


def named(results: Results, *names: str) -> list[Result]:
    """Return the runs of these methods."""
    return [r for r in results if method(r) in names]


def at(results: Iterable[Result], budget: float | None, *names: str) -> list[Result]:
    """Return the runs at this budget, of these methods or of all."""
    return [r for r in results if r.spec["budget"] == budget and (not names or method(r) in names)]


def stand_ins() -> tuple[list[float], dict[str, list[float]], dict[str, int], dict[str, float]]:
    """Return inputs, outputs of a ReLU and of what replaces it, the bytes that each sends online, and its expected error.

    Errors are of normal inputs of mean −0.4 and deviation 1.5; a comparison has its published price.
    """
    mean, std = torch.tensor(-0.4, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)
    found = {"parabola (DaPa)": dapa(mean, std), "identity (SNL)": torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)}
    sent = {"ReLU": 0, **dict.fromkeys(found, 0)}
    for name, operation in (("ReLU", Parties.relu), ("parabola (DaPa)", Parties.square)):
        two = Parties(seed=0)
        operation(two, two.share(torch.tensor([1.5])))
        sent[name] = sum(count for what, count in two.ledger.by_operation("online").items() if what != "input")
    outputs = {"ReLU": x.relu().tolist(), **{name: evaluate(c, x).tolist() for name, c in found.items()}}
    errors = {"ReLU": 0.0, **{name: expected_error(c, mean, std).item() for name, c in found.items()}}
    return x.tolist(), outputs, sent, errors


def a_product() -> list[tuple[str, int, int, str]]:
    """Return what both parties hold while they multiply 6 by 4 with a triple: name, both shares, role.

    First shares are from −20 to 19, so that one can follow; the real ones are uniform modulo 2⁶⁴.
    """
    generator = torch.Generator().manual_seed(0)

    def in_two(whole: int) -> Shares:
        part = torch.randint(-20, 20, (), generator=generator)
        return Shares(part, torch.tensor(whole) - part)

    x, y, a, b, z = (in_two(n) for n in (6, 4, 9, -3, 9 * -3))
    e, f = x - a, y - b
    product = beaver(x, y, e.first + e.second, f.first + f.second, z, torch.mul)
    held = (
        ("X", x, "secret"),
        ("Y", y, "secret"),
        ("A", a, "dealer"),
        ("B", b, "dealer"),
        ("Z = A · B", z, "dealer"),
        ("E = X − A", e, "opened"),
        ("F = Y − B", f, "opened"),
        ("X · Y", product, "result"),
    )
    return [(name, shares.first.item(), shares.second.item(), role) for name, shares, role in held]


def fit_errors(run: Result) -> pd.DataFrame:
    """Return the ``error`` of each replacement by ``layer``, and of the best parabola."""
    kinds = {name: run.arrays[f"error_{kind}"] for kind, name in POLYNOMIALS.items()} | {"best parabola": run.arrays["error_best"]}
    return pd.DataFrame(
        [{"method": name, "layer": f"{place + 1}", "error": error} for name, errors in kinds.items() for place, error in enumerate(errors)]
    )


def with_relus(results: Iterable[Result]) -> pd.DataFrame:
    """Return ``accuracy`` and ``relus`` of the runs that have any left."""
    return pd.DataFrame(
        [
            {"method": method(r), "relus": r.metrics["relus"], "accuracy": r.metrics["test_accuracy"], "seed": r.fields["seed"]}
            for r in results
            if r.metrics["relus"]
        ]
    )


def slack_gains(results: Iterable[Result]) -> list[float]:
    """Return how far the best epoch within the slack is above the last epoch, on the validation images."""
    return [r.metrics["best_val_accuracy"] - r.curves["val_accuracy"][-1] for r in results if r.metrics["best_val_accuracy"] is not None]


def layers_kept(results: Iterable[Result]) -> pd.DataFrame:
    """Return the ``share`` of each ``layer``'s ReLUs that is left."""
    return pd.DataFrame(
        [
            {"method": method(r), "layer": f"{place + 1}", "share": kept / whole}
            for r in results
            for place, (kept, whole) in enumerate(zip(r.arrays["relus_by_layer"], r.arrays["all_relus_by_layer"]))
        ]
    )


def bits_errors(run: Result) -> pd.DataFrame:
    """Return the ``error`` of a logit by the ``bits`` after the point: the largest, and of the median image."""
    return pd.DataFrame(
        [
            {"method": name, "bits": bits, "error": max(error, 1e-12)}
            for name, key in (("largest", "max_error"), ("median image", "median_error"))
            for bits, error in sorted(zip(run.arrays["bits"], run.arrays[key]))
        ]
    )


def networks(by_budget: Results, baselines: Results) -> pd.DataFrame:
    """Return a row per network that has a ReLU: ``method``, ``budget``, ``relus``, mean ``accuracy``."""
    groups = frame(by_budget).groupby(["method", "budget"], sort=False)
    found = groups.agg(relus=("relus", "first"), accuracy=("test_accuracy", "mean")).reset_index()
    if len(baselines):
        whole = {"method": "all ReLUs", "relus": baselines[0].metrics["relus"], "accuracy": float(np.mean(column(baselines)))}
        found = pd.concat([found, pd.DataFrame([whole])])
    return found[found["relus"] > 0]
