"""Wanda: weights and activations (Sun et al. 2024, "A Simple and Effective Pruning Approach for LLMs", arXiv 2306.11695).

mask_OI = rows(score(layer.weight, statistics), density=0.5)
mask_OI = structure("2:4").mask(score(layer.weight, statistics))
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.models.calibration import Statistics
from lib.system.checks import require


def score(weight_OI: Tensor, statistics: Statistics) -> Tensor:
    """|W_oi| · ‖X_i‖₂, [O, I] (eq. 1): the norm of feature i over all calibration tokens.

    Its square is what the output's squared error grows by when that weight alone goes and no other moves.
    """
    return weight_OI.detach().abs() * statistics.norm_I.to(weight_OI)


def rows(score_OI: Tensor, density: float) -> Tensor:
    """Keep the same share of each row, bool [O, I]: weights are compared per output (section 3).

    As in the authors' code, int(I · (1 - density)) weights of each row go; of equal ones, those with the lower index.
    """
    require(0 <= density <= 1, f"density is {density}: a share must be in [0, 1]")
    # Rounded, because 10 · (1 - 0.7) is a little more than 3 and 10 · (1 - 0.9) a little less than 1.
    removed = int(round(score_OI.shape[1] * (1 - density), 6))
    order = score_OI.argsort(dim=1, stable=True)
    return torch.ones_like(score_OI, dtype=torch.bool).scatter_(1, order[:, :removed], False)
