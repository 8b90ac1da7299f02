"""Allocation: how many weights each layer keeps.

    kept = masks(scores, density=0.01, structure=structure("unstructured"), allocation="global")

A budget is a number of weights.  Budgets are whole pieces of the structure; where pieces are single weights they sum to the
wanted total exactly, else they are as much of it as whole pieces fill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lib.pruning.mask import Masks, total
from lib.pruning.pieces import four, top
from lib.pruning.score import normalised
from lib.pruning.structure import NAMED, Structure
from lib.system.checks import one_of, require

#: "uniform": the same share of every layer.  "erk": shares by fan-in and fan-out, see :func:`erk`.  "global": the best of
#: all layers together.  "lamp": the same by LAMP's scores, which compare each weight with its own layer.
ALLOCATIONS = ("uniform", "erk", "global", "lamp")


def masks(
    scores: Mapping[str, Tensor],
    density: float | int,
    structure: Structure = NAMED["unstructured"],
    allocation: str = "global",
    floor: int = 0,
) -> Masks:
    """Masks with the budgets of :func:`budgets`: each layer's best pieces.

    density: a share (float) or a number of weights (int).
    """
    kept = budgets(scores, density, structure, allocation, floor)
    return {name: structure.mask(score, kept[name]) for name, score in scores.items()}


def budgets(
    scores: Mapping[str, Tensor],
    density: float | int,
    structure: Structure = NAMED["unstructured"],
    allocation: str = "global",
    floor: int = 0,
) -> dict[str, int]:
    """Weights per layer.  floor: the least that each keeps, where it has so many; rounded up to whole pieces.

    For "lamp", scores below 0 count as 0.  Only the shapes of the scores matter for "uniform" and "erk".
    Raises ValueError for a density or floor that cannot be had.
    """
    one_of("allocation", allocation, ALLOCATIONS)
    everything = total(scores)
    if isinstance(density, float):
        require(0 <= density <= 1, f"density is {density}: a share must be in [0, 1]")
        density = round(density * everything)
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    most = {name: structure.capacity(shape) for name, shape in shapes.items()}
    wanted = sum(most.values())
    require(0 <= density <= wanted, f"density is {density} weights: this structure keeps 0 to {wanted} of {everything}")
    units = {name: structure.unit(shape) for name, shape in shapes.items()}
    least = {name: min(most[name], math.ceil(floor / units[name]) * units[name]) for name in shapes}
    require(
        sum(least.values()) <= density,
        f"a floor of {floor} weights a layer needs {sum(least.values())} in all, "
        f"but only {density} are to stay: lower the floor or prune less",
    )
    if allocation in ("uniform", "erk"):
        shares = uniform(shapes) if allocation == "uniform" else erk(shapes)
        return whole(proportional(shares, density, least, most), density, units, most)
    return ranked(scores, density, structure, least, compare=normalised if allocation == "lamp" else None)


def uniform(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Each layer's weights, before all are scaled to the total."""
    return {name: float(math.prod(shape)) for name, shape in shapes.items()}


def erk(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Erdős-Rényi-Kernel (Evci et al. 2020, arXiv 1911.11134, section 3): density ∝ (O + I + kh + kw) / (O · I · kh · kw).

    So a layer's number of weights goes with the sum of its sides, and large layers become the sparsest.
    """
    return {name: float(sum(four(shape)) if len(shape) == 4 else sum(shape)) for name, shape in shapes.items()}


def proportional(shares: dict[str, float], target: int, least: dict[str, int], most: dict[str, int]) -> dict[str, float]:
    """Real budgets ∝ shares, held between ``least`` and ``most``, that sum to ``target``.  By bisection for the factor."""

    def at(factor: float) -> dict[str, float]:
        return {name: min(max(factor * share, least[name]), most[name]) for name, share in shares.items()}

    low, high = 0.0, max(most[name] / share for name, share in shares.items())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle).values()) < target else (low, middle)
    return at(high)


def whole(real: dict[str, float], target: int, units: dict[str, int], most: dict[str, int]) -> dict[str, int]:
    """Budgets in whole pieces: the real ones rounded down, then a piece more for those that lost most, while it fits."""
    kept = {
        name: most[name] if value > most[name] - 1e-6 else math.floor(value / units[name] + 1e-9) * units[name]
        for name, value in real.items()
    }
    left = target - sum(kept.values())
    while left > 0:
        fits = [name for name in kept if units[name] <= left and kept[name] + units[name] <= most[name]]
        if not fits:
            break
        best = max(fits, key=lambda name: (real[name] - kept[name]) / units[name])
        kept[best] += units[best]
        left -= units[best]
    return kept


def ranked(
    scores: Mapping[str, Tensor],
    target: int,
    structure: Structure,
    least: dict[str, int],
    compare: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, int]:
    """The best pieces of all layers together, by mean score per weight; each layer's best come first up to its ``least``."""
    values = []
    for name, score in scores.items():
        own = structure.groups(score)
        require(not bool(own.isnan().any()), f"a score of {name!r} is NaN: the network, or its gradient, is not finite")
        own = (compare(own) if compare else own).clone()
        if least[name]:
            order = own.argsort(descending=True, stable=True)
            before = structure.sizes(score.shape).to(order.device)[order].cumsum(0).roll(1)
            before[0] = 0
            own[order[before < least[name]]] = torch.inf
        values.append(own)
    joined, lengths = torch.cat(values), [len(own) for own in values]
    if all(structure.even(score.shape) == 1 for score in scores.values()):
        chosen = top(joined, target).split(lengths)
        return {name: int(choice.count_nonzero()) for name, choice in zip(scores, chosen)}
    sizes = torch.cat([structure.sizes(score.shape) for score in scores.values()]).to(joined.device)
    order = joined.argsort(descending=True, stable=True)
    kept = torch.zeros_like(sizes)
    fits = order[sizes[order].cumsum(0) <= target]
    kept[fits] = sizes[fits]
    return {name: int(own.sum()) for name, own in zip(scores, kept.split(lengths))}
