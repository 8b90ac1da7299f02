"""ProbMask (Zhou et al. 2021, "Effective sparsification of neural networks with global sparsity constraint",
arXiv 2105.01571): each weight has a probability of being there, and the probabilities' sum is the budget.

Masks are drawn anew at each step from a relaxed Bernoulli distribution, so that probabilities get a gradient; after the
step they are projected onto {0 ≤ p ≤ 1, Σ p ≤ K}.  Where a layer's weights go is decided by the loss, not by a rule.
The paper trains the network that is left for some more epochs under its last mask; no such training follows here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.pruning.mask import attach, bake, layers
from lib.pruning.trainers.base import Trainer, kept_highest
from lib.training import optim

#: Learning rate of Adam for the probabilities: the paper's, for 300 epochs.  A shorter training has a higher one, so that a
#: probability can still cross the range [0, 1] several times: TRAVEL is the rate at first times the number of steps.
SCORE_LR, TRAVEL = 6e-3, 15.0

#: The last temperature of the relaxed masks, of the first, which is 1.
COLDEST = 0.03

#: Keeps logarithms of probabilities finite.
EDGE = 1e-10

#: Halvings of the interval in which the projection's shift lies: about what float32 can tell apart.
HALVINGS = 30


def project(probabilities: list[Tensor], total: float) -> list[Tensor]:
    """The nearest point with 0 ≤ p ≤ 1 and Σ p ≤ ``total``: clamp(p - v, 0, 1) with one v ≥ 0, by bisection."""
    flat = torch.cat([p.flatten() for p in probabilities])
    low, high = torch.zeros_like(flat[0]), flat.max().clamp(min=0)
    if flat.clamp(0, 1).sum(dtype=torch.float64) > total:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            heavy = (flat - middle).clamp(0, 1).sum(dtype=torch.float64) > total
            low, high = torch.where(heavy, middle, low), torch.where(heavy, high, middle)
        flat = flat - high
    parts = flat.clamp(0, 1).split([p.numel() for p in probabilities])
    return [part.view_as(p) for part, p in zip(parts, probabilities)]


def relaxed(probability: Tensor, temperature: Tensor) -> Tensor:
    """A draw of σ((logit p + g) / temperature), g the difference of two Gumbel variables: nearly 0 or 1 when it is cold."""
    noise = torch.rand_like(probability).clamp(EDGE, 1 - 1e-7).logit()
    logit = (probability + EDGE).log() - (1 - probability + EDGE).log()
    return torch.sigmoid((logit + noise) / temperature)


class Probable(nn.Module):
    """The parametrization w ↦ w · mask: a relaxed draw in training; those with p from ``bar`` on in evaluation."""

    def __init__(self, like: Tensor):
        super().__init__()
        self.p = nn.Parameter(torch.ones_like(like))
        self.register_buffer("temperature", like.new_tensor(1.0))
        self.register_buffer("bar", like.new_tensor(0.5))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            return weight * relaxed(self.p, self.temperature)
        return torch.where((self.p > 0) & (self.p >= self.bar), weight, 0.0)


class ProbMask(Trainer):
    """Learn weights and their probabilities together, from scratch; the budget falls by the plan's schedule.

    Unstructured only.  At the end the K likeliest weights stay.
    """

    unstructured_only = True

    def prepare(self, model: nn.Module) -> None:
        for module in layers(model).values():
            parametrize.register_parametrization(module, "weight", Probable(module.weight.detach()))

    def optimizers_of(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        scores = [parts.p for parts in self.parts(model).values()]
        for p in scores:
            p.requires_grad_(False)  # so that the weights' optimisers leave them out
        weights = super().optimizers_of(model)
        for p in scores:
            p.requires_grad_()
        fused = all(p.device.type in optim.FUSED for p in scores)
        return weights + [torch.optim.Adam(scores, lr=max(SCORE_LR, TRAVEL / self.steps), fused=fused)]

    def parts(self, model: nn.Module) -> dict[str, Probable]:
        return {name: module.parametrizations.weight[0] for name, module in layers(model).items()}

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        parts, budget = self.parts(model).values(), self.budget_at(step)
        for part, p in zip(parts, project([part.p for part in parts], budget)):
            part.p.copy_(p)
            part.temperature.fill_(1 - (1 - COLDEST) * step / self.steps)
        if step % self.batches.steps == 0:  # an evaluation follows: the network that we would have if training ended now
            everything = torch.cat([part.p.flatten() for part in parts])
            bar = everything.kthvalue(min(len(everything), len(everything) - budget + 1)).values
            for part in parts:
                part.bar.copy_(bar)

    @torch.no_grad()
    def finish(self, model: nn.Module) -> None:
        parts = self.parts(model)
        masks = kept_highest({name: part.p for name, part in parts.items()}, self.budget)
        for name, part in parts.items():  # in evaluation mode the weights now act as they are, or not at all
            part.p.copy_(masks[name])
            part.bar.fill_(0.5)
        attach(bake(attach(model.eval(), masks)), masks)
