"""SAFE (Lee et al. 2025, "SAFE: finding sparse and flat minima to improve pruning", arXiv 2506.06866): weights are pulled
towards the nearest sparse point, by the alternating direction method of multipliers, while they look for flat ground.

Every K steps z = top_d(x + u) and u ← u + x - z; each step follows the gradient at x + ρ∇f/‖∇f‖ (sharpness-aware
minimisation, arXiv 2010.01412) and then x ← x - ηλ(x - z + u), with λ rising along half a cosine.  No mask acts while
it trains; at the end the d largest weights stay, and batch norm's statistics are estimated anew.

The released code adds λ(x - z + u) to the gradient, so that momentum carries it, with λ near 1e-4 over a long run; here the
pull stands outside the optimiser, with λ up to 1, for a short one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lib.pruning.mask import attach, latent, prunable
from lib.pruning.trainers.base import Trainer, kept_highest
from lib.training.schedule import rate

#: How far sharpness-aware minimisation looks, and the penalty's last weight.  The authors choose both anew for each density.
RHO, PENALTY = 0.1, 1.0


def sharpness_aware(loss, rho: float):
    """``loss`` at the worst point within ``rho``: w + ρ g / ‖g‖, g its gradient at w, which is taken as a constant.

    Batch norm's running statistics are those of the first pass, at w itself.
    """

    def flat(model: nn.Module, inputs: Tensor, targets: Tensor):
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        here, logged = loss(model, inputs, targets)
        gradient = torch.autograd.grad(here, list(named.values()))
        norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
        moved = {name: p + rho * g / (norm + 1e-12) for (name, p), g in zip(named.items(), gradient)}
        spare = {name: buffer.clone() for name, buffer in model.named_buffers()}
        value, _ = loss(lambda inputs: functional_call(model, moved | spare, (inputs,)), inputs, targets)
        return value, logged

    return flat


class Duals(nn.Module):
    """z and u of one weight, as buffers, so that an interrupted training finds them again."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("z", weight.detach().clone())
        self.register_buffer("u", torch.zeros_like(weight))


class SAFE(Trainer):
    """Alternate between the sparse projection and sharpness-aware steps, from the dense weights.

    The duals are kept beside the masks, as ``model.duals``, until the end.  Unstructured only.
    """

    unstructured_only = True

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        model.duals = nn.ModuleList(Duals(weight) for weight in latent(model).values())
        self.flat = sharpness_aware(self.base_loss, RHO)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor):
        return self.flat(model, inputs, targets)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        weights = latent(model)
        if (step - 1) % self.plan.every == 0:
            sums = {name: weight + dual.u for (name, weight), dual in zip(weights.items(), model.duals)}
            masks = kept_highest({name: value.abs() for name, value in sums.items()}, self.budget)
            for (name, weight), dual in zip(weights.items(), model.duals):
                dual.z.copy_(sums[name] * masks[name])
                dual.u.add_(weight - dual.z)
        penalty = PENALTY * 0.5 * (1 - math.cos(math.pi * step / self.steps))
        lr = self.recipe.lr * rate(self.recipe.schedule, step - 1, self.steps, self.recipe.warmup, self.recipe.final_lr)
        for weight, dual in zip(weights.values(), model.duals):
            weight.sub_(lr * penalty * (weight - dual.z + dual.u))

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        del model.duals
        attach(model, kept_highest({name: weight.abs() for name, weight in prunable(model).items()}, self.budget))
