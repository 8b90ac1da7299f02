"""GPTQ: round one column after the other, and let the later ones make up for it (Frantar et al. 2023, arXiv 2210.17323).

weight_OI = gptq(layer.weight, statistics, bits=3, group=64)
"""

from __future__ import annotations

from torch import Tensor

from lib.models.calibration import Statistics
from lib.pruning.column_sweep import BLOCK, sweep
from lib.quantization.grid import grid_of
from lib.system.checks import require


def gptq(
    weight_OI: Tensor,
    statistics: Statistics,
    bits: int,
    group: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    block: int = BLOCK,
) -> Tensor:
    """The rounded weight [O, I] (algorithm 1; eq. 2 and 3).  bits, group, symmetric: of :func:`lib.quantization.grid.grid_of`.

    A group's grid is set when the sweep reaches it, from its weights as they are then; without groups, from the original
    row.  The authors' code looks at them as they were at the beginning of the block of ``block`` columns.  Columns stay in
    their order: its option ``act-order`` is not here.
    Raises ValueError where groups and blocks do not fit together.
    """
    inputs = weight_OI.shape[1]
    whole = group is None or group >= inputs
    require(whole or block % group == 0, f"block is {block}: it must be a multiple of the group, {group}")
    grid = grid_of(weight_OI.to(statistics.gram_II.dtype), bits, None, symmetric)

    def fix(W_OJ: Tensor, _: Tensor, column: int, start: int) -> Tensor:
        nonlocal grid
        if not whole and column % group == 0:
            grid = grid_of(W_OJ[:, column : column + group], bits, None, symmetric)
        return grid.round(W_OJ[:, column, None])[:, 0]

    return sweep(weight_OI, statistics.gram_II, fix, damping, block)
