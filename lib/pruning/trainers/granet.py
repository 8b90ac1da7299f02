"""GraNet (Liu et al. 2021, "Sparse training via boosting pruning plasticity with neuroregeneration", arXiv 2106.10404):
gradual pruning in which, each time, survivors are exchanged for weights that the gradient asks for.

Also here, because it is this method with more care: purging.  At hundreds of times fewer weights many lie on no path from
the input to the output.  They cost budget and do nothing, so they go first and others stay in their place.

The chapter starts it from a trained network, as its other trainers.  The released code starts from random weights that are sparse
already, and lets the share that is exchanged fall along a cosine over all of the training, to 0.005.
"""

from __future__ import annotations

import torch
from torch import nn

from lib.pruning import allocate
from lib.pruning.collapse import effective, purge
from lib.pruning.mask import Masks, count, masks_of, set_masks
from lib.pruning.trainers.base import Trainer
from lib.pruning.trainers.rigl import born, check_exchangeable, exchanged, fading


class GraNet(Trainer):
    """Gradual pruning by magnitude, then, in each layer, exchange as RigL does.

    The share that is exchanged falls from ``plan.regrow`` (0.5 in the paper) to zero where masks settle.
    """

    def prepare(self, model: nn.Module) -> None:
        check_exchangeable(self.structure, self.plan.structure)
        super().prepare(model)
        self.shape = tuple(self.batches.batch(0, 0)[0].shape[1:])

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if not self.due(step):
            return
        before, dead = masks_of(model), None
        if step <= self.last:
            set_masks(model, self.pruned(model, self.budget_at(step)))
        elif self.plan.purge:
            alive = purge(model, before, self.shape)
            # Where no path is left at all, every weight is dead; then exchanging as usual mends the network.
            dead = {name: before[name] & ~alive[name] for name in before} if count(alive) else None
        share = self.plan.regrow * fading(step, self.settled)
        if share or dead:
            set_masks(model, exchanged(model, self.dense_gradients(model, step), self.structure, share, dead))
        self.start_at_zero(model, born(before, masks_of(model)))

    def pruned(self, model: nn.Module, budget: int) -> Masks:
        """The largest weights; with purging, as many of those that lie on a path."""
        sizes = self.sizes(model)
        if not self.plan.purge:
            return allocate.masks(sizes, budget, self.structure, self.plan.allocation, self.plan.floor)
        return effective(model, sizes, budget / self.weights, self.shape, self.structure, self.plan.allocation, self.plan.floor)
