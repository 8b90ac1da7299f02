"""The sweep that SparseGPT and GPTQ share: fix one column after the other, and let the columns to its right make up for it.

Frantar et al. 2023 (GPTQ, arXiv 2210.17323, algorithm 1); Frantar and Alistarh 2023 (SparseGPT, arXiv 2301.00774,
algorithm 1).  They differ in what a column is fixed to: a grid, or zero where the mask says so.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.pruning.obs import cholesky_of_inverse, damped

#: Columns that are fixed before the others are brought up to date by one matrix product.
BLOCK = 128

#: fix(W_OJ, diagonal_J, column, start): the fixed column [O].  W_OJ: the columns of the block as they are now, the first of
#: them number ``start`` of the weight; diagonal_J: of U, see :func:`lib.pruning.obs.cholesky_of_inverse`; column: in W_OJ.
Fix = Callable[[Tensor, Tensor, int, int], Tensor]


@torch.no_grad()
def sweep(weight_OI: Tensor, gram_II: Tensor, fix: Fix, damping: float = 0.01, block: int = BLOCK) -> Tensor:
    """The weight with all columns fixed, [O, I], in the dtype of ``weight_OI``; computed in that of ``gram_II``.

    The result does not depend on ``block`` unless ``fix`` does.  Weights of features that never occurred count as zero.
    """
    hessian_II, dead_I = damped(gram_II, damping)
    upper_II = cholesky_of_inverse(hessian_II)
    working_OI = weight_OI.detach().to(gram_II.dtype).masked_fill(dead_I, 0.0)
    for start in range(0, working_OI.shape[1], block):
        part = slice(start, min(start + block, working_OI.shape[1]))
        W_OJ, U_JJ = working_OI[:, part], upper_II[part, part]  # a view: what is fixed stays in working_OI
        diagonal_J = U_JJ.diagonal()
        errors_OJ = torch.zeros_like(W_OJ)
        for column in range(W_OJ.shape[1]):
            fixed_O = fix(W_OJ, diagonal_J, column, start)
            errors_OJ[:, column] = (W_OJ[:, column] - fixed_O) / diagonal_J[column]
            W_OJ[:, column:] -= errors_OJ[:, column, None] * U_JJ[column, column:]
            W_OJ[:, column] = fixed_O  # exactly
        working_OI[:, part.stop :] -= errors_OJ @ upper_II[part, part.stop :]
    return working_OI.to(weight_OI.dtype)
