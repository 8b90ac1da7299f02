"""Schedules: how dense the network is while it is being pruned.

Each schedule is a function of how much of the pruning is done, from 0 to 1; density 1 is the whole network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from lib.pruning.allocate import masks
from lib.pruning.mask import Masks, attach, set_masks
from lib.pruning.score import Batch, compute
from lib.pruning.structure import NAMED, Structure
from lib.system.checks import one_of, require


def one_shot(progress: float, final: float) -> float:
    """Everything at once, as soon as pruning begins."""
    return final if progress > 0 else 1.0


def cubic(progress: float, final: float, first: float = 1.0) -> float:
    """Fast at first, slow in the end (Zhu and Gupta 2017, arXiv 1710.01878, eq. 1).

    For the sparsity: s = s_f + (s_0 - s_f) (1 - progress)³.
    """
    return final + (first - final) * (1 - clipped(progress)) ** 3


def exponential(progress: float, final: float) -> float:
    """final^progress: the same share of what is left goes in equal times (SynFlow, arXiv 2006.05467, algorithm 1)."""
    return final ** clipped(progress)


SCHEDULES = {"one_shot": one_shot, "cubic": cubic, "exponential": exponential}


def density_at(kind: str, step: int, begin: int, end: int, final: float) -> float:
    """Density at a training step: 1 up to step ``begin``, ``final`` from step ``end`` on.

    Raises ValueError for what makes no sense.
    """
    one_of("schedule", kind, SCHEDULES)
    require(0 <= begin < end, f"pruning from step {begin} to step {end} makes no sense: give a later end")
    require(0 < final <= 1, f"density is {final}: it must be in (0, 1]")
    return SCHEDULES[kind]((step - begin) / (end - begin), final)


def levels(rounds: int, amount: float = 0.2) -> list[float]:
    """Densities of iterative pruning, (1 - amount)^k: each round takes the share ``amount`` of what is *left*."""
    require(0 < amount < 1 and rounds >= 0, f"amount is {amount} in {rounds} rounds: it must be a share in (0, 1)")
    return [(1 - amount) ** k for k in range(1, rounds + 1)]


def rounds(kind: str, number: int, final: float) -> list[float]:
    """Densities after each of ``number`` rounds."""
    return [density_at(kind, k, 0, number, final) for k in range(1, number + 1)]


def prune_in_rounds(
    model: nn.Module,
    score: str,
    densities: Sequence[float],
    batches: Iterable[Batch] = (),
    *,
    structure: Structure = NAMED["unstructured"],
    allocation: str = "global",
    floor: int = 0,
    seed: int = 0,
    ignored: Iterable[str] = (),
) -> Masks:
    """Attach masks and prune without training in between: score what is left, keep the best, again and again.

    SynFlow takes 100 rounds of :func:`exponential`, the other scores at initialisation one.  Weights that went never come
    back: their scores count as less than any other.  Returns the last masks; ``model`` has them.
    """
    batches = list(batches)
    attach(model, ignored=ignored)
    kept: Masks = {}
    for density in densities:
        scores = compute(score, model, batches, seed=seed, ignored=ignored)
        if kept:
            scores = {name: values.masked_fill(~kept[name], float("-inf")) for name, values in scores.items()}
        kept = masks(scores, float(density), structure, allocation, floor)
        set_masks(model, kept)
    return kept


def clipped(progress: float) -> float:
    return min(1.0, max(0.0, progress))
