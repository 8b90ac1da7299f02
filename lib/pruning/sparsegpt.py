"""SparseGPT: prune a layer in one sweep, its mask chosen on the way (Frantar and Alistarh 2023, arXiv 2301.00774).

weight_OI, mask_OI = sparsegpt(layer.weight, statistics, density=0.5)
weight_OI, mask_OI = sparsegpt(layer.weight, statistics, structure=NM(2, 4))
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.models.calibration import Statistics
from lib.pruning.column_sweep import BLOCK, sweep
from lib.pruning.structure import NM
from lib.system.checks import require


def sparsegpt(
    weight_OI: Tensor,
    statistics: Statistics,
    density: float | None = None,
    structure: NM | None = None,
    damping: float = 0.01,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """The pruned weight, the others corrected, and its mask, bool [O, I] (algorithm 1).

    density: the share that stays of each ``block`` columns, by w² / [H⁻¹]_qq (eq. 3), from the weights as they are when
    the sweep comes to that block (section 3.2).  structure: N:M instead, chosen group by group (section 3.3).
    The authors' code takes the same score; its threshold removes one weight more per block, and all that equal it.
    Raises ValueError unless one of density and structure is given, or where groups and blocks do not fit together.
    """
    require((density is None) != (structure is None), "give a density or an N:M structure, one of them")
    group = structure.m if structure else block
    require(block % group == 0, f"block is {block}: it must be a multiple of the structure's {group}")
    mask_OI = torch.ones_like(weight_OI, dtype=torch.bool)

    def fix(W_OJ: Tensor, diagonal_J: Tensor, column: int, start: int) -> Tensor:
        if column % group == 0:
            coming = slice(column, min(column + group, W_OJ.shape[1]))
            score = (W_OJ[:, coming] / diagonal_J[coming]).square()
            mask_OI[:, start + coming.start : start + coming.stop] = structure.mask(score) if structure else best(score, density)
        return torch.where(mask_OI[:, start + column], W_OJ[:, column], 0.0)

    return sweep(weight_OI, statistics.gram_II, fix, damping, block), mask_OI


def best(score: Tensor, density: float) -> Tensor:
    """Bool, of the shape of ``score``: the best share of all entries; of equal ones, the first."""
    require(0 <= density <= 1, f"density is {density}: a share must be in [0, 1]")
    order = score.flatten().argsort(descending=True, stable=True)
    kept = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    kept[order[: round(density * score.numel())]] = True
    return kept.view(score.shape)
