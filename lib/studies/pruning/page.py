"""The pruning chapter's runs as its cells pick them, and the frames that its figures draw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.models.vgg import VGG, WIDTHS, vgg16
from lib.pruning.mask import prunable
from lib.runs.results import Result, Results
from lib.studies.base import picked
from lib.studies.base.picked import column
from lib.studies.pruning.names import method

#: Forms of a sparse layer whose time is shown, and what they are called.
FORMS = {"masked": "masked", "zeros": "zeros, stored", "csr": "CSR", "bsr": "BSR, 16×16", "removed": "removed"}


def named(results: Results, *names: str) -> list[Result]:
    """Return the runs of these methods."""
    return [r for r in results if method(r) in names]


def first_seed(results: Iterable[Result]) -> list[Result]:
    """Return the runs of the least seed."""
    results = list(results)
    return [r for r in results if r.fields["seed"] == min(other.fields["seed"] for other in results)]


def of_experiment(results: Iterable[Result], name: str) -> list[Result]:
    """Return the runs of an experiment: ``"dense"``, ``"tickets"``."""
    return [r for r in results if r.experiment == f"pruning-{name}"]


def pruned_to(spec: dict[str, Any] | None) -> float | None:
    """Return the ratio to which the network of a Spec was pruned, or the one that it was made from; None for a dense one."""
    while spec and "plan" not in spec:
        spec = spec.get("parent")
    return 1 / spec["plan"]["density"] if spec else None


def ratio_of(run: Result) -> float:
    """Return how many times fewer weights the plan leaves."""
    return 1 / run.spec["plan"]["density"]


def at_ratio(results: Results, ratio: float, *names: str) -> list[Result]:
    """Return the runs of these methods at this ratio, to 2 %."""
    return [r for r in named(results, *names) if abs(ratio_of(r) / ratio - 1) < 0.02]


def with_codes(files: Results) -> list[Result]:
    """Return the files whose values are codes of a codebook."""
    return [r for r in files if "grid" in r.spec["parent"]]


def by_file(results: Results, usual: float) -> dict[str, list[Result]]:
    """Return packed or quantized networks by name, with the ratio unless it is ``usual``, at which all codebooks are tried."""

    def called(run: Result) -> str:
        ratio, codes = pruned_to(run.spec["parent"]), "grid" in run.spec or "grid" in run.spec["parent"]
        return method(run) + (f", {ratio:g}×" if ratio and not (codes and abs(ratio / usual - 1) < 0.02) else "")

    return picked.grouped(results, called)


def structure_of(run: Result) -> str:
    """Return the structure of a run's mask."""
    return run.spec["plan"]["structure"]


def vgg_layers() -> pd.DataFrame:
    """Return a row per layer of VGG-16 for images of 32×32 pixels: ``weights``, their ``uses`` for one image, ``channels``, ``sections``."""
    with torch.device("meta"):
        weights = prunable(VGG(vgg16()))
    side, rows = 32, []
    for place, weight in enumerate(weights.values()):
        if place in (2, 4, 7, 10):
            side //= 2
        uses = side * side if weight.ndim == 4 else 1
        channels = weight.shape[0] if weight.ndim == 4 else 0
        sections = min(16, weight.shape[0]) * min(4, weight.shape[1])
        rows.append((f"{place + 1}", weight.numel(), weight.numel() * uses, channels, sections))
    return pd.DataFrame(rows, columns=["layer", "weights", "uses", "channels", "sections"])


def vgg_name(widths: Sequence[int]) -> str:
    """Return what a chain of these many channels is called: VGG-16, a narrow VGG-16, or a VGG."""
    share = widths[0] / WIDTHS[0]
    if tuple(widths) != vgg16(share).widths:
        return "VGG"
    return "VGG-16" if share == 1 else f"VGG-16 with 1/{1 / share:g} of the channels"


def network_of(run: Result) -> str:
    """Return the network that was timed."""
    widths = run.spec["model"].get("widths")
    return vgg_name(widths) if widths else "512×4608 and 512×512"


def cut_through(runs: Collection[Result]) -> bool:
    """Return whether no weight of any of these networks is on a path from the input to the output; False without runs."""
    return bool(runs) and not any(r.metrics["on_paths"] for r in runs)


def pays_from(speed: Iterable[Result], form: str) -> str:
    """Return the largest share of weights at which this form is faster than the dense network, for each network, in words."""
    quick = picked.grouped([r for r in speed if r.metrics[f"{form}_ratio"] < 1], network_of)
    found = [f"{max(r.spec['density'] for r in runs):.0%} of the weights ({network})" for network, runs in quick.items()]
    return " and ".join(found) or "nowhere here"


def mean_of(results: Iterable[Result], metric: str) -> float | None:
    """Return the mean of a metric; None without values."""
    values = column(results, metric)
    return float(np.mean(values)) if values else None
