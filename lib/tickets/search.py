"""Good sub-networks by masking step by step: S-pruning of whole parts, M-pruning of single weights.

Both go on as long as the masked network, without any further training, scores at least 90 % of what the whole one scores
(Prasanna et al., arXiv 2005.00561, section 3; released ``find_head_mlp_masks.py`` and ``find_global_weight_mask.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.system.checks import require
from lib.tickets.importance import Importance
from lib.tickets.masks import Parts

#: Of the whole network's score, what a good sub-network keeps: 90 % *of it*, not a score of 90 %.
KEEP = 0.9

#: Share of all heads (S) or of the weights that are left (M) that goes in a step.
AMOUNT = 0.1

#: Steps of M-pruning at most, as released: at least 0.9¹⁰, 35 %, of the weights stay.
MOST_STEPS = 10


@dataclass(frozen=True, eq=False)
class Tried:
    """One mask that was tried: what was being masked ("both", "heads", "ffns" or "weights"), the mask, and its score."""

    stage: str
    mask: Parts | dict[str, Tensor]
    score: float


def s_pruning(
    parts: Parts, score: Callable[[Parts], float], rank: Callable[[Parts], Importance], keep: float = KEEP, amount: float = AMOUNT
) -> tuple[Parts, list[Tried]]:
    """The good sub-network and everything that was tried on the way, the whole network first.

    score(parts) is a quality, higher is better; rank(parts) the importance of all parts as things stand.  Three stages, each
    from the last mask that was good enough: ``amount`` of the heads together with one FFN, then heads by themselves in steps
    of half as many, then FFNs by themselves.

    Importance is measured anew at each good mask; the released code goes on, at the change of a stage, with that of the mask
    it has just rejected.  A step takes at least one head, where the released code's half step would take none of few heads.
    """
    full = score(parts)
    tried = [Tried("whole", parts, full)]
    step = max(1, int(parts.heads.numel() * amount))
    for stage, heads, ffns in (("both", step, 1), ("heads", max(1, step // 2), 0), ("ffns", 0, 1)):
        while can_drop(parts, heads, ffns):
            less = without_least(parts, rank(parts), heads, ffns)
            tried.append(Tried(stage, less, score(less)))
            if tried[-1].score < keep * full:
                break
            parts = less
    return parts, tried


def s_pruning_to(parts: Parts, rank: Callable[[Parts], Importance], share: float, amount: float = AMOUNT) -> Parts:
    """Go on by the same steps, whatever the score, until this share of heads and of FFNs is left (at least one of each)."""
    require(0 < share <= 1, f"share is {share}: it must be above 0 and at most 1")
    heads, ffns = (max(1, round(share * mask.numel())) for mask in (parts.heads, parts.ffns))
    step = max(1, int(parts.heads.numel() * amount))
    while max(over := (int(parts.heads.sum()) - heads, int(parts.ffns.sum()) - ffns)) > 0:
        parts = without_least(parts, rank(parts), max(0, min(step, over[0])), max(0, min(1, over[1])))
    return parts


def can_drop(parts: Parts, heads: int, ffns: int) -> bool:
    return (not heads or bool(parts.heads.any())) and (not ffns or bool(parts.ffns.any()))


def without_least(parts: Parts, scores: Importance, heads: int, ffns: int) -> Parts:
    """``parts`` without its ``heads`` least important heads, of all layers together, and ``ffns`` least important FFNs."""
    return Parts(drop_least(parts.heads, scores.heads, heads), drop_least(parts.ffns, scores.ffns, ffns))


def drop_least(mask: Tensor, scores: Tensor, count: int) -> Tensor:
    """Switch off the ``count`` lowest-scored of what is on; of equal ones the first.  Fewer where fewer are left."""
    order = scores.masked_fill(~mask, float("inf")).flatten().argsort(stable=True)
    found = mask.flatten().clone()
    found[order[: min(count, int(mask.sum()))]] = False
    return found.view(mask.shape)


def m_pruning(
    weights: Mapping[str, Tensor],
    score: Callable[[dict[str, Tensor]], float],
    keep: float = KEEP,
    amount: float = AMOUNT,
    most: int = MOST_STEPS,
) -> tuple[dict[str, Tensor], list[Tried]]:
    """Masks of the largest weights, of all layers together, and everything tried on the way.

    ``weights``: of the *fine-tuned* network by name.  Each step takes ``amount`` of the weights that are left; the last
    masks with which score(masks) is good enough stay.
    """
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    full = score(masks)
    tried = [Tried("whole", masks, full)]
    for _ in range(most):
        less = largest(weights, round((1 - amount) * sum(int(mask.sum()) for mask in masks.values())))
        tried.append(Tried("weights", less, score(less)))
        if tried[-1].score < keep * full:
            break
        masks = less
    return masks, tried


def largest(weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Masks of exactly the ``count`` largest weights by absolute value, of all layers together."""
    flat = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    found = torch.zeros_like(flat, dtype=torch.bool)
    found[flat.argsort(descending=True, stable=True)[:count]] = True
    pieces = found.split([weight.numel() for weight in weights.values()])
    return {name: piece.view(weight.shape) for (name, weight), piece in zip(weights.items(), pieces)}
