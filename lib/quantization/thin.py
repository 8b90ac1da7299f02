"""Gradual pruning of a network that may have masks already, or codebooks.

trainer = Thin(model, Plan(density=0.25), recipe, batches, loss)
fit(model, batches, trainer.loss, recipe, seed=0, optimizers=trainer.optimizers, after_step=trainer.after_step)
trainer.finish(model)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.pruning.mask import attach, count, masks_of, prunable, set_masks
from lib.pruning.trainers.gradual import Gradual
from lib.quantization.codebook import books, refit, shadows


class Thin(Gradual):
    """:class:`~lib.pruning.trainers.gradual.Gradual`, but what is pruned when it begins stays pruned, and codebooks stay.

    Where a layer has a codebook, its latent weights are compared, since the values themselves have many equals; after each
    change of the masks k-means is run anew over the weights that are left.  Masks must lie before codebooks, see
    :func:`masked_as_is`.  However short the training, its end is pruned.
    """

    def prepare(self, model: nn.Module) -> None:
        masked_as_is(model)

    def sizes(self, model: nn.Module) -> dict[str, Tensor]:
        return super().sizes(model) | {name: weight.abs() for name, weight in shadows(model).items()}

    @torch.no_grad()
    def keep_best(self, model: nn.Module, budget: int) -> None:
        before = masks_of(model)
        super().keep_best(model, budget)
        set_masks(model, {name: mask & before[name] for name, mask in masks_of(model).items()})
        if books(model):
            refit(model)

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        if count(masks_of(model)) > self.budget:
            self.keep_best(model, self.budget)


def masked_as_is(model: nn.Module) -> nn.Module:
    """Masks, in place, that keep the zeros there are, on each layer that has none; to be called before codebooks are given.

    Returns ``model``.
    """
    have = masks_of(model)
    return attach(model, have | {name: weight != 0 for name, weight in prunable(model).items() if name not in have})
