"""Does growth pay?  How much compute training from scratch needs for the loss that growth reached.

A loss in the middle of a run says little, for its learning rate is still high.  So scratch is trained to the end with
several budgets, and its loss is interpolated between these, as a power of the compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from lib.runs.results import Result, Results
from lib.studies.growth.paths import step_flops


def needed(loss: float, flops: Sequence[float], losses: Sequence[float]) -> float:
    """The compute at which training from scratch ends with ``loss``.

    ``flops`` and ``losses`` of finished runs, two at least.  Straight lines in log loss over log compute, the outer
    ones prolonged.  Raises ValueError for less than two of them, and where more compute did not lower the loss.
    """
    points = sorted(zip(flops, losses, strict=True))
    if len(points) < 2:
        raise ValueError("one budget from scratch says nothing about savings: train at two or more")
    if any(later >= earlier for (_, earlier), (_, later) in zip(points, points[1:])):
        raise ValueError("more compute did not lower the loss from scratch: nothing can be interpolated")
    pairs = list(zip(points, points[1:]))
    (f0, l0), (f1, l1) = next((pair for pair in pairs if loss >= pair[1][1]), pairs[-1])
    slope = math.log(f1 / f0) / math.log(l1 / l0)
    return f0 * math.exp(slope * math.log(loss / l0))


def of_envelope(loss: float, scratch: Iterable[Iterable[tuple[float, float]]]) -> float:
    """The least compute at which any of several networks from scratch ends with ``loss``: their lower envelope.

    ``scratch``  for each network the (compute, loss) of its finished runs

    A network for which :func:`needed` has no answer is left out.  Raises ValueError where none has one.
    """
    found = []
    for points in scratch:
        try:
            found.append(needed(loss, *zip(*points)))
        except (ValueError, TypeError):  # too few points, or none
            continue
    if not found:
        raise ValueError("no network from scratch has two budgets at which more compute lowered its loss")
    return min(found)


def compute(run: Result) -> float:
    """All training FLOPs behind a network, its sources' included."""
    return run.metrics["total_flops"]


def saving(grown: Result, scratch: Results, spent: Callable[[Result], float] = compute) -> float:
    """1 - what the grown network cost, its source charged, over what scratch needs for its test loss; below 0 it cost more.

    ``spent``: what is compared, compute or time.  Scratch is the network of the same geometry with the same seed.
    Raises ValueError where there are not two budgets of it.
    """
    same = [one for one in scratch if one.spec["seed"] == grown.spec["seed"] and step_flops(one) == step_flops(grown)]
    return 1 - spent(grown) / needed(grown.metrics["test_loss"], [spent(one) for one in same], [one.metrics["test_loss"] for one in same])


def envelope_saving(grown: Result, scratch: Results, spent: Callable[[Result], float] = compute) -> float:
    """The same against the lower envelope of all dense networks from scratch in ``scratch``, of any size, with the same seed.

    What growth is worth: against one size alone it may only show that this size is too large for the compute.
    """
    sizes: dict[float, list[tuple[float, float]]] = {}
    for one in scratch:
        if one.spec["seed"] == grown.spec["seed"] and not is_sparse(one):
            sizes.setdefault(step_flops(one), []).append((spent(one), one.metrics["test_loss"]))
    return 1 - spent(grown) / of_envelope(grown.metrics["test_loss"], sizes.values())


def is_sparse(result: Result) -> bool:
    """Whether the trained network has experts."""
    return "expert_distance" in result.metrics
