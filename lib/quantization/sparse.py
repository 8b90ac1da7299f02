"""Prune and round in one sweep: SparseGPT with GPTQ's grids (Frantar and Alistarh 2023, arXiv 2301.00774, section 3.5).

weight_OI, mask_OI = sparse_and_rounded(layer.weight, statistics, density=0.5, bits=4)
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.models.calibration import Statistics
from lib.pruning.column_sweep import BLOCK, sweep
from lib.pruning.sparsegpt import best
from lib.pruning.structure import NM
from lib.quantization.grid import grid_of
from lib.system.checks import require


def sparse_and_rounded(
    weight_OI: Tensor,
    statistics: Statistics,
    bits: int,
    density: float | None = None,
    structure: NM | None = None,
    group: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """The weight with what is left of it on a grid, [O, I], and its mask, bool [O, I].

    One column after the other is set to zero where the mask says so and rounded where not; the columns to its right make up for
    both, as far as their grids reach.  Arguments as of :func:`lib.pruning.sparsegpt.sparsegpt` and :func:`lib.quantization.gptq.gptq`; a grid spans the weights
    that its group has when the sweep reaches it, those that will be pruned among them.
    Raises ValueError as they do.
    """
    require((density is None) != (structure is None), "give a density or an N:M structure, one of them")
    inputs = weight_OI.shape[1]
    chosen = structure.m if structure else block
    whole = group is None or group >= inputs
    require(
        block % chosen == 0 and (whole or block % group == 0),
        f"block is {block}: it must be a multiple of the structure's {chosen} and of the group, {group}",
    )
    mask_OI = torch.ones_like(weight_OI, dtype=torch.bool)
    grid = grid_of(weight_OI.to(statistics.gram_II.dtype), bits, None, symmetric)

    def fix(W_OJ: Tensor, diagonal_J: Tensor, column: int, start: int) -> Tensor:
        nonlocal grid
        if not whole and column % group == 0:
            grid = grid_of(W_OJ[:, column : column + group], bits, None, symmetric)
        if column % chosen == 0:
            coming = slice(column, min(column + chosen, W_OJ.shape[1]))
            score = (W_OJ[:, coming] / diagonal_J[coming]).square()
            mask_OI[:, start + coming.start : start + coming.stop] = structure.mask(score) if structure else best(score, density)
        return torch.where(mask_OI[:, start + column], grid.round(W_OJ[:, column, None])[:, 0], 0.0)

    return sweep(weight_OI, statistics.gram_II, fix, damping, block), mask_OI
