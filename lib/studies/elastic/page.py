"""The elastic chapter's runs picked for sentences: by method, over seeds, against the baseline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lib.measure.statistics import percent, points, spelled, student
from lib.runs.results import Result, Results
from lib.studies.base import picked
from lib.studies.base.picked import column, gains
from lib.studies.elastic.names import method

#: The named sub-networks whose accuracy is drawn.
SIZES_TOLD = {"large": "the whole network", "medium": "medium", "small": "small", "smallest": "smallest"}

#: What a search is given a budget of.
COST_NAMES = {"parameters": "parameters", "flops": "FLOPs", "latency_ms": "latency"}


def named(results: Results, *names: str) -> Results:
    """Return the runs of these methods."""
    return picked.named(results, method, names)


def over_seeds(results: Iterable[Result], metric: str, digits: int = 2, **how: Any) -> str:
    """Return a metric's mean and interval for a sentence."""
    return spelled(column(results, metric), digits=digits, **how)


def methods(results: Results, without: str = "") -> list[str]:
    """Return the methods of a study, each once."""
    return [name for name in dict.fromkeys(method(r) for r in results) if name != without]


def best_small(samplers: Results, names: Iterable[str]) -> str:
    """Return the method with the best small sub-network on validation images."""
    return max(names, key=lambda name: np.mean(column(named(samplers, name), "val_accuracy_small")))


def of_size(twins: Iterable[Result], whole: Results, size: str) -> list[Result]:
    """Return the twins that have as many parameters as this sub-network."""
    return [r for r in twins if len(whole) and r.metrics["parameters_large"] == whole[0].metrics[f"parameters_{size}"]]


def how_gated(result: Result) -> str:
    """Return the sampler, the router and its gate."""
    moe = result.spec["moe"]
    rule = "loss-free bias" if moe["router"] == "bias" else "gate p" if moe["single_gate"] == "probability" else "share"
    return f"{'ERNIE' if result.spec['sampler'] else 'rigid'}, {rule}"


def seeds_told(results: Results) -> str:
    """Return "is one seed" or "are 3 seeds"."""
    used = len({r.fields["seed"] for r in results})
    return "is one seed" if used == 1 else f"are {used} seeds"


def in_turns(results: Iterable[Result], name: str = "") -> str:
    """Return a ratio of times and its percentiles over the rounds, means over seeds; a dash without runs."""
    results = list(results)
    if not results:
        return "–"
    ratio, low, high = (np.mean(column(results, name + what)) for what in ("ratio", "ratio_p05", "ratio_p95"))
    return f"{ratio:.2f}× [{low:.2f}, {high:.2f}]"


def against(runs: Iterable[Result], rigid: Iterable[Result]) -> str:
    """Return by how much the whole network differs from the baseline, paired by seed."""
    return points(gains(runs, rigid, "test_accuracy_large"))


def kept_at_budget(runs: Iterable[Result]) -> str:
    """Return the clause about the share of the whole network's accuracy that the best sub-network within the budget keeps."""
    fitting = [
        r.metrics["test_accuracy_budget"] / r.metrics["test_accuracy_large"]
        for r in runs
        if r.metrics.get("test_accuracy_budget") is not None
    ]
    if not fitting:
        return "no sub-network on offer has at most 36 % of all and 54 % of the active parameters"
    return (
        f"the best sub-network with at most 36 % of all and 54 % of the active parameters keeps {percent(fitting)} "
        "of its whole network's accuracy"
    )


def fewer_steps(samplers: Results, names: Iterable[str], than: str) -> int:
    """Return how many of the methods took fewer steps than this one."""
    steps = {name: named(samplers, name)[0].metrics["steps"] for name in names}
    return sum(steps[name] < steps[than] for name in steps)


def first_chosen(subsets: Iterable[Result]) -> int:
    """Return in how many networks importance chose exactly the first half of the layers."""
    chosen = [r.arrays["layers"] for r in subsets]
    return sum(layers[: max(1, len(layers) // 2)] == list(range(max(1, len(layers) // 2))) for layers in chosen)


def gained(recovery: Results, name: str, what: str) -> str:
    """Return by how much training ``what`` changes test accuracy against training nothing, paired by seed."""
    runs = [r for r in recovery if method(r).startswith(name)]
    return points(gains(*([r for r in runs if r.fields["what"] == one] for one in (what, "nothing"))))


def at_k(results: Results, name: str, k: int) -> str:
    """Return the validation accuracy of these runs with k experts per token."""
    walls = [zip(r.arrays["wall_k"], r.arrays["wall_accuracy"]) for r in named(results, name)]
    return percent([value for wall in walls for found, value in wall if found == k])


def predictors_told(found: Results) -> str:
    """Return the predictors that cross-validation chose, of several seeds how often."""
    names = column(found, "predictor")
    return ", ".join(
        f"`{name}`" + (f" for {names.count(name)} of {len(names)} seeds" if len(found) > 1 else "") for name in dict.fromkeys(names)
    )


def search_stands(found: Results) -> dict[str, list[str]]:
    """Return the costs by how the search's measured front stands: larger than both others, smaller than one of them, or open."""
    stands: dict[str, list[str]] = {"larger": [], "smaller": [], "open": []}
    for name, told in COST_NAMES.items():
        gaps = [
            student([r.metrics[f"measured_hypervolume_{name}_search"] - r.metrics[f"measured_hypervolume_{name}_{who}"] for r in found])
            for who in ("random", "uniform")
        ]
        above = [gap.mean > (gap.half_width or 0) for gap in gaps]
        below = [-gap.mean > (gap.half_width or 0) for gap in gaps]
        stands["larger" if all(above) else "smaller" if any(below) else "open"].append(told)
    return stands
