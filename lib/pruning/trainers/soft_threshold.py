"""STR: soft threshold reparametrisation (Kusupati et al. 2020, "Soft threshold weight reparameterization for learnable
sparsity", arXiv 2002.03231): each layer learns below which magnitude its weights are zero.

The paper sets the overall sparsity by hand, through the weight decay of the thresholds.  A table of densities needs a
given one, so here weight decay on them is replaced by one shift, common to all layers, that meets the planned density;
how the layers differ is learnt, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.pruning.mask import attach, bake, layers
from lib.pruning.trainers.base import Trainer, kept_highest

#: Magnitudes are kept this far from 0 and 1, beyond which a sigmoid's inverse does not exist.
EDGE = 1e-7

#: Threshold, before the sigmoid, that training starts with: about 3e-7, below every weight.
START = -15.0


def soft_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """sign(w) · max(|w| - threshold, 0): equation 1.  Every weight that stays is pulled towards zero as well."""
    return weight.sign() * (weight.abs() - threshold).relu()


class SoftThreshold(nn.Module):
    """The parametrization w ↦ soft_threshold(w, σ(s + shift)); ``s`` is the layer's own, ``shift`` common to all."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.s = nn.Parameter(like.new_tensor(0.0))
        self.register_buffer("shift", like.new_tensor(START))

    @property
    def threshold(self) -> Tensor:
        return torch.sigmoid(self.s + self.shift)

    def forward(self, weight: Tensor) -> Tensor:
        return soft_threshold(weight, self.threshold)


class STR(Trainer):
    """Learn the layers' thresholds, from scratch; their common shift follows the plan's density, exactly at each change.

    Unstructured only.
    """

    unstructured_only = True

    def prepare(self, model: nn.Module) -> None:
        for module in layers(model).values():
            parametrize.register_parametrization(module, "weight", SoftThreshold(module.weight.detach()))

    def margins(self, model: nn.Module) -> dict[str, Tensor]:
        """How far each weight is above its layer's threshold, both before the sigmoid and without the shift."""
        found = {}
        for name, module in layers(model).items():
            parts = module.parametrizations.weight
            found[name] = torch.logit(parts.original.detach().abs(), EDGE) - parts[0].s.detach()
        return found

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        # The budget is met to the end of training, since thresholds never stop learning.
        if step >= self.first and (step - self.first) % self.plan.every == 0:
            self.meet(model, self.budget_at(step))

    def meet(self, model: nn.Module, budget: int) -> dict[str, Tensor]:
        """Shift all thresholds so that ``budget`` weights are above them.  Returns the margins."""
        margins = self.margins(model)
        everything = torch.cat([margin.flatten() for margin in margins.values()])
        if budget < len(everything):
            shift = everything.kthvalue(len(everything) - budget).values  # the strongest of those that have to go
            for module in layers(model).values():
                module.parametrizations.weight[0].shift.copy_(shift)
        return margins

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        """Exactly the budget stays, by margin; the weights take the values they act with."""
        masks = kept_highest(self.meet(model, self.budget), self.budget)
        attach(bake(attach(model, masks)), masks)
