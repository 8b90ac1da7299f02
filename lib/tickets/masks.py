"""Sub-networks of equal size: which heads and FFNs stay, and the random and the bad choice to compare a good one with.

Used for whole parts of an encoder (:class:`Parts`) and for single weights (masks by name, see :mod:`lib.pruning.mask`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib.models.encoder import EncoderConfig
from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class Parts:
    """Which parts of an encoder stay.

    ``heads``  bool [L, H], attention heads by layer
    ``ffns``   bool [L], whole feed-forward networks: the "MLPs" of Prasanna et al. (arXiv 2005.00561)
    """

    heads: Tensor
    ffns: Tensor

    def __post_init__(self) -> None:
        require(
            self.heads.ndim == 2 and self.ffns.shape == self.heads.shape[:1],
            f"heads {tuple(self.heads.shape)} and ffns {tuple(self.ffns.shape)} do not fit: give [L, H] and [L]",
        )
        require(self.heads.dtype == self.ffns.dtype == torch.bool, "masks of parts must be bool")

    def gates(self) -> dict[str, list[Tensor]]:
        """Keyword arguments for an encoder's ``forward`` and for removal: float [1, H] and [1, 1] per layer."""
        return {"head_masks": list(self.heads.float()[:, None]), "layer_masks": list(self.ffns.float()[:, None, None])}

    def lists(self) -> dict[str, list]:
        """As nested lists of 0 and 1, for a result's arrays."""
        return {"heads": self.heads.int().tolist(), "ffns": self.ffns.int().tolist()}


def whole(config: EncoderConfig) -> Parts:
    """All parts of an encoder with as many heads in every layer."""
    require(len(set(config.heads_by_layer)) == 1, f"layers have {config.heads_by_layer} heads: Parts need as many in each")
    heads = torch.ones(config.depth, config.heads_by_layer[0], dtype=torch.bool)
    return Parts(heads, torch.ones(config.depth, dtype=torch.bool))


def share(parts: Parts, config: EncoderConfig) -> float:
    """Part of the weights of all layers that stays: 4·D·d for a head of d features, 2·D·h for an FFN of h neurons."""
    per_head, per_layer = 4 * config.width * config.head_features, [2 * config.width * h for h in config.hidden_by_layer]
    kept = int(parts.heads.sum()) * per_head + sum(size for size, stays in zip(per_layer, parts.ffns.tolist()) if stays)
    return kept / (parts.heads.numel() * per_head + sum(per_layer))


# Equal size

#: Added to a seed for bad sub-networks, so that they are not drawn in the order of the random ones.
BAD = 1_000_000


def random_like(mask: Tensor, seed: int) -> Tensor:
    """A mask with as many ones as ``mask``, anywhere.

    The released code tosses a coin for each part and gets about as many; here it is exactly as many.
    """
    found = torch.zeros(mask.numel(), dtype=torch.bool)
    found[shuffle(mask.numel(), seed)[: int(mask.sum())]] = True
    return found.view(mask.shape).to(mask.device)


def bad_like(mask: Tensor, seed: int) -> Tensor:
    """As many ones as ``mask``, on what ``mask`` leaves out; where that is too little, the rest is drawn from ``mask``.

    A good sub-network of more than half the parts therefore shares some with its bad one.
    """
    order = shuffle(mask.numel(), BAD + seed).to(mask.device)
    flat = mask.flatten()
    order = torch.cat([order[~flat[order]], order[flat[order]]])
    found = torch.zeros_like(flat)
    found[order[: int(mask.sum())]] = True
    return found.view(mask.shape)


def shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


#: How the sub-networks that are compared come from the good one, by mask and seed.
CHOICES: dict[str, Callable[[Tensor, int], Tensor]] = {"good": lambda mask, seed: mask, "random": random_like, "bad": bad_like}


def chosen_parts(good: Parts, choice: str, seed: int) -> Parts:
    """The good, a random or the bad sub-network with as many heads and as many FFNs as the good one."""
    return Parts(CHOICES[choice](good.heads, 2 * seed), CHOICES[choice](good.ffns, 2 * seed + 1))


def chosen_weights(good: Mapping[str, Tensor], choice: str, seed: int) -> dict[str, Tensor]:
    """The same for single weights: all layers are one pool."""
    flat = CHOICES[choice](torch.cat([mask.flatten() for mask in good.values()]), seed)
    pieces = flat.split([mask.numel() for mask in good.values()])
    return {name: piece.view(mask.shape) for (name, mask), piece in zip(good.items(), pieces)}


# Overlap


def overlap(first: Any, second: Any) -> float:
    """Jaccard index of two masks, tensors or nested 0/1 lists: what both keep of what either keeps; 1 for empty ones."""
    first, second = (torch.as_tensor(mask, dtype=torch.bool) for mask in (first, second))
    require(first.shape == second.shape, f"masks of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot overlap")
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 1.0


def chance_overlap(first: float, second: float) -> float:
    """The Jaccard index to expect of two independent random masks that keep these shares: p q / (p + q - p q)."""
    either = first + second - first * second
    return first * second / either if either else 1.0
