"""Structures: which weights live or die together.  All of them are ways to cut a weight [O, I, kh, kw] into pieces.

    structure("kernel").mask(score, keep=0.01)         # bool [O, I, kh, kw]; score: higher is better

A linear layer's weight [O, I] counts as [O, I, 1, 1].  ``keep`` is a number of weights (int) or a share of them (float).
A mask never keeps more than that.  It keeps exactly that many where pieces are single weights, and as many of the best whole
pieces as fit where they are larger.  Of equal scores the first in memory order wins.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.pruning.pieces import ANY, EACH, Block, Grid, Sizes, Structure, labels
from lib.system.checks import did_you_mean, require

__all__ = ["ANY", "EACH", "NAMED", "NM", "WORKERS", "Balanced", "Block", "Grid", "Pattern", "Structure", "imbalance", "structure"]


@dataclass(frozen=True)
class Pattern(Structure):
    """Each 3×3 kernel keeps ``cells`` of its 9 weights, by one of ``library`` patterns, or is dropped whole.

    As in PatDNN (Niu et al. 2020, arXiv 2001.00138): a kernel's natural pattern is its centre with its other best cells; the
    library holds the patterns that are natural most often; each kernel takes from it the one that loses least.  Deviation: a
    library per layer, not per network.  Other kernel sizes have no patterns, and their kernels are kept or dropped whole.
    """

    cells: int = 4
    library: int = 8

    def applies(self, shape: Sizes) -> bool:
        return tuple(shape[2:]) == (3, 3)

    def natural(self, score: Tensor) -> Tensor:
        """[library, 9] bool: this layer's patterns; fewer where fewer occur."""
        cells = score.flatten(0, 1).flatten(1).clone()
        cells[:, 4] = torch.inf
        places = cells.argsort(dim=1, descending=True, stable=True)[:, : self.cells]
        codes = (1 << places).sum(1)
        found, counts = codes.unique(return_counts=True)
        best = found[counts.argsort(descending=True, stable=True)[: self.library]]
        return (best[:, None] >> torch.arange(9, device=score.device)) % 2 == 1

    def best(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Of each kernel: what its best pattern keeps of the score [O · I], and that pattern [O · I, 9]."""
        library = self.natural(score)
        kept = score.flatten(0, 1).flatten(1) @ library.to(score.dtype).T
        value, index = kept.max(1)
        return value, library[index]

    def groups(self, score: Tensor) -> Tensor:
        if not self.applies(score.shape):
            return NAMED["kernel"].groups(score)
        return self.best(score)[0] / self.cells

    def sizes(self, shape: Sizes) -> Tensor:
        if not self.applies(shape):
            return NAMED["kernel"].sizes(shape)
        return torch.full((shape[0] * shape[1],), self.cells)

    def chosen(self, score: Tensor, choice: Tensor) -> Tensor:
        if not self.applies(score.shape):
            return NAMED["kernel"].chosen(score, choice)
        return (self.best(score)[1] & choice[:, None]).view(score.shape)


@dataclass(frozen=True)
class NM(Structure):
    """At most ``n`` of each ``m`` neighbours along the input channels (arXiv 2104.08378); a last group may be shorter."""

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        require(1 <= self.n <= self.m, f"{self.n}:{self.m} makes no sense: at least 1, and at most all, of each m stay")

    def eligible(self, score: Tensor) -> Tensor:
        """The best ``n`` of each group, bool of the shape of ``score``."""
        inputs = score.shape[1]
        padded = torch.nn.functional.pad(score.movedim(1, -1), (0, -inputs % self.m), value=-torch.inf)
        order = padded.unflatten(-1, (-1, self.m)).argsort(dim=-1, descending=True, stable=True)
        kept = order.argsort(-1) < self.n  # the rank of each within its group
        return kept.flatten(-2)[..., :inputs].movedim(-1, 1)

    def groups(self, score: Tensor) -> Tensor:
        return score[self.eligible(score)]

    def sizes(self, shape: Sizes) -> Tensor:
        inputs = shape[1]
        per_row = self.n * (inputs // self.m) + min(self.n, inputs % self.m)
        return torch.ones(math.prod(shape) // inputs * per_row, dtype=torch.int64)

    def chosen(self, score: Tensor, choice: Tensor) -> Tensor:
        kept = self.eligible(score)
        kept[kept.clone()] = choice
        return kept


@dataclass(frozen=True)
class Balanced(Structure):
    """The best weights of each tile of a grid, the same number in each, or one more: every worker has as much to do."""

    grid: Grid = Grid(16, 4, ANY, ANY)

    def groups(self, score: Tensor) -> Tensor:
        return score.flatten()

    def sizes(self, shape: Sizes) -> Tensor:
        return torch.ones(math.prod(shape), dtype=torch.int64)

    def mask(self, score: Tensor, keep: int | float | None = None) -> Tensor:
        keep = self.budget(score, keep)
        best_first = score.flatten().argsort(descending=True, stable=True)
        tile = labels(self.grid, score.shape).flatten().to(score.device)[best_first]
        by_tile = tile.argsort(stable=True)
        counts = torch.bincount(tile)
        rank = torch.empty_like(tile)
        rank[by_tile] = torch.arange(len(tile), device=tile.device) - (counts.cumsum(0) - counts)[tile[by_tile]]
        kept = best_first[rank.argsort(stable=True)[:keep]]  # all the firsts, then all the seconds, the best before
        found = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
        found[kept] = True
        return found.view(score.shape)


def structure(name: str) -> Structure:
    """By name: those of :data:`NAMED`, "N:M" such as "2:4", "block RxC" such as "block 4x16".

    Raises ValueError for another name.
    """
    if name in NAMED:
        return NAMED[name]
    if found := re.fullmatch(r"(\d+):(\d+)", name):
        return NM(*map(int, found.groups()))
    if found := re.fullmatch(r"block (\d+)x(\d+)", name):
        return Block(*map(int, found.groups()))
    raise ValueError(
        f"structure is {name!r}: use one of {', '.join(map(repr, NAMED))}, or \"N:M\" such as '2:4', or "
        f"\"block RxC\" such as 'block 4x16'.{did_you_mean(name, NAMED)}"
    )


#: ``column`` is also called shape: one place (input channel, row, column) of all filters.
NAMED: dict[str, Structure] = {
    "unstructured": Grid(),
    "filter": Grid(EACH, ANY, ANY, ANY),
    "channel": Grid(ANY, EACH, ANY, ANY),
    "kernel": Grid(EACH, EACH, ANY, ANY),
    "column": Grid(ANY, EACH, EACH, EACH),
    "pattern": Pattern(),
    "2:4": NM(2, 4),
    "block": Block(16, 16),
    "balanced": Balanced(),
}

#: Who shares the work of a layer: 16 workers along the filters and 4 along the channels.
WORKERS = Grid(16, 4, ANY, ANY)


def imbalance(mask: Tensor, grid: Grid = WORKERS) -> float:
    """Most non-zeros of any tile of ``grid`` over their mean: how much longer the slowest worker takes than needed."""
    counts = grid.groups(mask.double()) * grid.sizes(mask.shape).to(mask.device)
    require(counts.sum() > 0, "the mask keeps nothing, so there is no work to balance")
    return float(counts.max() / counts.mean())
