"""AC/DC (Peste et al. 2021, "AC/DC: alternating compressed/decompressed training of deep neural networks",
arXiv 2106.12379): phases with all weights and phases with the largest ones take turns; the last phase is sparse.

A weight that is pruned starts from zero in the next dense phase, so it can grow back if the loss wants it.  Momentum is cleared at
both switches; the authors' released code clears it only where weights come back.
"""

from __future__ import annotations

import torch
from torch import nn

from lib.pruning.mask import masks_of, ones, prunable, set_masks
from lib.pruning.trainers.base import Trainer

#: Share of the training that is dense at least before the first sparse phase, as in the paper: pruned by the magnitudes of
#: its initial weights, a network would be broken before it begins.
DENSE_FIRST = 0.1

#: Phases between the plan's beginning and its settling, dense ones and sparse ones together.
PHASES = 8


def phase_of(step: int, first: int, last: int) -> str:
    """``"dense"`` or ``"sparse"`` after ``step``: dense up to ``first``, in turns up to ``last``, then sparse for good.

    The first of the turns is sparse and so is the last, which goes on to the end of training.
    """
    if step <= first:
        return "dense"
    turn = min(PHASES, (step - first - 1) * PHASES // max(1, last - first))
    return "sparse" if turn % 2 == 0 else "dense"


class ACDC(Trainer):
    """Alternate, from scratch.  Sparse phases have the plan's final density from the first one on."""

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.first = min(self.settled, max(self.first, round(DENSE_FIRST * self.steps)))

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        before, now = (phase_of(s, self.first, self.settled) for s in (step - 1, step))
        if before == now:
            return
        if now == "sparse":
            self.keep_best(model, self.budget)
            self.start_at_zero(model, {name: ~mask for name, mask in masks_of(model).items()})
        else:
            set_masks(model, ones(prunable(model)))
        self.forget_momentum()
