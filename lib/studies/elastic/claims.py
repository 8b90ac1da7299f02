"""The values behind the elastic chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.elastic.names import elastic_axes

Studies = Mapping[str, Results]

#: A network that is right less often than this has learnt too little for a share of its accuracy to mean anything.
LEAST_ACCURACY = 0.2

#: Loss of accuracy at which a number of experts still counts as usable: 0.2 points.
USABLE = 0.002


# Picking runs out of a study


def picked(runs: Results, keep) -> Results:
    return Results(tuple(r for r in runs if keep(r.spec)), runs.missing)


def rigid(runs: Results) -> Results:
    """The whole network, trained as usual and then asked for sub-networks."""
    return picked(runs, lambda spec: spec["sampler"] is None and spec["offered"] is not None)


def sampled(runs: Results, sampler: str, **fields) -> Results:
    """Those of this class of :mod:`lib.elastic.samplers`, and with these of its fields."""
    return picked(
        runs,
        lambda spec: (
            spec["sampler"] is not None
            and spec["sampler"]["type"] == sampler
            and all(spec["sampler"][name] == value for name, value in fields.items())
        ),
    )


def along(runs: Results, *axes: str) -> Results:
    """Those whose sub-networks differ along these axes and no others."""
    return picked(runs, lambda spec: elastic_axes(spec["space"]) == list(axes))


def trained_at(runs: Results, k: int) -> Results:
    """Ordinary training of a mixture at this k."""
    return picked(runs, lambda spec: spec["sampler"] is None and spec["space"]["k"] == [k])


def dense(runs: Results, width: int) -> Results:
    return picked(runs, lambda spec: spec["sampler"] is None and spec["moe"] is None and spec["space"]["hidden"] == [width])


def of_length(runs: Results, epochs: int) -> Results:
    return picked(runs, lambda spec: spec["recipe"]["epochs"] == epochs)


# Values by seed


def scores(runs: Results, *metrics: str) -> dict[int, float]:
    """The mean of these metrics by seed.  Raises ValueError where two runs share one: they were not told apart."""
    found: dict[int, float] = {}
    for result in runs:
        if result.fields["seed"] in found:
            raise ValueError(f"two results have seed {result.fields['seed']}: narrow them down to one method first")
        found[result.fields["seed"]] = float(np.mean([result.metrics[name] for name in metrics]))
    return found


def minus(first: dict[int, float], second: dict[int, float]) -> dict[int, float]:
    """Difference for each seed that both have."""
    return {seed: value - second[seed] for seed, value in first.items() if seed in second}


def averaged(parts: Sequence[dict[int, float]]) -> dict[int, float]:
    """Mean over ``parts`` for each seed that all of them have."""
    common = [seed for seed in parts[0] if all(seed in part for part in parts)]
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in common}


def decided(values: dict[int, float], *runs: Results) -> list[float]:
    """The values themselves; :class:`NotTestable`, with what is missing in ``runs``, where there is none."""
    if not values:
        raise NotTestable(f"no two runs of the same seed to compare{why(*runs)}")
    return list(values.values())


def difference(first: Results, second: Results, *metrics: str) -> list[float]:
    return decided(minus(scores(first, *metrics), scores(second, *metrics)), first, second)


def tested(*names: str) -> list[str]:
    return [f"test_accuracy_{name}" for name in names]


# ERNIE 5.0


def budget_over_whole(studies: Studies) -> list[float]:
    runs = picked(sampled(studies["samplers"], "ERNIE"), lambda spec: spec["sampler"]["policy"]["experts"] == "random")
    within = [r for r in runs if "test_accuracy_budget" in r.metrics]
    if runs and not within:
        raise NotTestable("no sub-network on offer has as few parameters as the paper's")
    learnt = [r for r in within if r.metrics["test_accuracy_large"] >= LEAST_ACCURACY]
    if within and not learnt:
        raise NotTestable(f"no whole network is right in {LEAST_ACCURACY:.0%} of the cases: there is nothing to keep")
    return [r.metrics["test_accuracy_budget"] / r.metrics["test_accuracy_large"] for r in learnt]


# Once-for-All


def progressive_minus_twins(studies: Studies) -> list[float]:
    runs, twins = sampled(studies["samplers"], "Progressive"), studies["twins"]
    parts = []
    for name in ("medium", "small"):
        sizes = {r.metrics[f"size_{name}"] for r in runs}
        same = Results(tuple(r for r in twins if r.metrics["size_large"] in sizes), twins.missing)
        parts.append(minus(scores(runs, *tested(name)), scores(same, *tested("large"))))
    return decided(averaged(parts), runs, twins)


# MatFormer


def nested_minus_twins(studies: Studies) -> list[float]:
    """Against twins of as many steps as the nested network: against shorter ones it would be judged by its length."""
    runs, twins = studies["matformer"], studies["lengths"]
    long = picked(sampled(runs, "Nested"), lambda spec: spec["equal"] == "steps")
    widths = sorted({width for r in long for width in r.spec["space"]["hidden"]})
    if not widths:
        raise NotTestable(f"no nested network was trained for as many steps as all its twins{why(runs)}")
    as_long = of_length(twins, long[0].spec["recipe"]["epochs"])
    if not all(len(dense(as_long, width)) for width in widths):
        raise NotTestable(f"no twin was trained for as many steps as the nested network{why(twins)}")
    parts = [minus(scores(long, *tested(f"hidden_{width}")), scores(dense(as_long, width), *tested("large"))) for width in widths]
    return decided(averaged(parts), runs)


def mixtures_minus_line(studies: Studies) -> list[float]:
    found = [above_line(r.arrays["mixtures"]) for r in studies["mixtures"]]
    if None in found:
        raise NotTestable("a network of one layer has no mixtures of widths")
    return found


def above_line(rows: list[list]) -> float | None:
    """Mean height of the mixtures above the line through the widths used alone; None without mixtures.

    Rows: widths by layer, parameters, FLOPs, accuracy.
    """
    alone = sorted((parameters, accuracy) for widths, parameters, _, accuracy in rows if len(set(widths)) == 1)
    mixed = [(parameters, accuracy) for widths, parameters, _, accuracy in rows if len(set(widths)) > 1]
    if not mixed:
        return None
    return float(np.mean([accuracy - np.interp(parameters, *zip(*alone)) for parameters, accuracy in mixed]))


# Matryoshka MoE


def layerwise_minus_one_k(studies: Studies) -> list[float]:
    runs = studies["sparsity"]
    layerwise, one = sampled(runs, "LayerwiseK"), along(sampled(runs, "Uniform"), "k")
    return difference(layerwise, one, *tested(*(f"k_{k}" for k in choices(layerwise))))


def layerwise_minus_specialists(studies: Studies) -> list[float]:
    runs = studies["sparsity"]
    layerwise = sampled(runs, "LayerwiseK")
    most = choices(layerwise)[-1]
    ks = sorted({1, most // 2, most})  # the range goes up to twice the usual k
    parts = [minus(scores(layerwise, *tested(f"k_{k}")), scores(trained_at(runs, k), *tested("large"))) for k in ks]
    return decided(averaged(parts), runs)


def choices(layerwise: Results) -> list[int]:
    if not layerwise:
        raise NotTestable(f"no mixture was trained with a k for each layer{why(layerwise)}")
    return layerwise[0].spec["space"]["k"]


# Elastic MoE


def rigid_beyond_its_k(studies: Studies) -> list[float]:
    found = []
    for result in rigid(studies["sparsity"]):
        k, by_k = wall(result)
        if 3 * k not in by_k:
            raise NotTestable(f"there are too few experts to make three times {k} of them active")
        found.append(by_k[3 * k] - by_k[k])
    return found


def usable_range(studies: Studies) -> list[float]:
    found = []
    for result in sampled(studies["sparsity"], "CoActivation"):
        k, by_k = wall(result)
        more = sorted(other for other in by_k if other > k)
        if not more or more[-1] < 3 * k:
            raise NotTestable(f"there are too few experts to make three times {k} of them active")
        worse = next((place for place, other in enumerate(more) if round(by_k[k] - by_k[other], 6) > USABLE), len(more))
        found.append((more[worse - 1] if worse else k) / k)
    return found


def wall(result: Result) -> tuple[int, dict[int, float]]:
    """The k that a network was trained at, and its validation accuracy at every k that was looked at."""
    return result.spec["space"]["k"][-1], dict(zip(result.arrays["wall_k"], result.arrays["wall_accuracy"], strict=True))
