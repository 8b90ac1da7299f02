"""Gradual magnitude pruning (Zhu and Gupta 2017, "To prune, or not to prune", arXiv 1710.01878).

While the network trains, its smallest weights go, many at first and few at the end; what is pruned stays pruned.
"""

from __future__ import annotations

import torch
from torch import nn

from lib.pruning.trainers.base import Trainer


class Gradual(Trainer):
    """The cubic schedule from the dense weights; the plan's allocation says how layers are compared.

    The paper prunes every layer by the same share ("uniform"); "global" compares all weights, and can empty a layer.
    """

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if self.due(step) and step <= self.last:
            self.keep_best(model, self.budget_at(step))
