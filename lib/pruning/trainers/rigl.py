"""RigL (Evci et al. 2020, "Rigging the lottery", arXiv 1911.11134): sparse from the first step, by exchanging weights.

Each ΔT steps every layer drops its smallest weights and grows as many where the gradient is largest.  The number of
weights never changes, so neither memory nor compute ever needs the dense network but for that gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lib.pruning import allocate
from lib.pruning.mask import Masks, attach, masks_of, prunable, set_masks
from lib.pruning.pieces import Block, Grid, Structure, top
from lib.pruning.score import random
from lib.pruning.trainers.base import Trainer
from lib.system.checks import require

#: Of a layer's weights, the share that is exchanged at first (α in the paper).
EXCHANGED = 0.3


def exchange(alive: Tensor, strength: Tensor, gradient: Tensor, number: int, dead: Tensor | None = None) -> Tensor:
    """Of the living groups the ``number`` weakest die, and as many not alive after that, of the largest gradient, are born.

    alive: bool [G]; strength and gradient: [G].  dead: living groups that have to go in any case, and are replaced too.
    What has just died may be born again.  The count of living groups stays as it is.
    """
    must_go = torch.zeros_like(alive) if dead is None else alive & dead
    staying = int(alive.count_nonzero()) - int(must_go.count_nonzero())
    kept = top(torch.where(alive & ~must_go, strength, -torch.inf), max(0, staying - number))
    candidates = torch.where(kept | must_go, -torch.inf, gradient)
    born = min(int(alive.count_nonzero()) - int(kept.count_nonzero()), len(alive) - int((kept | must_go).count_nonzero()))
    return kept | top(candidates, born)


def fading(step: int, last: int) -> float:
    """½(1 + cos(π t / T)): 1 at first, 0 from ``last`` on, so that masks come to rest."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, last))))


def exchanged(model: nn.Module, gradients: dict[str, Tensor], structure: Structure, share: float, dead: Masks | None = None) -> Masks:
    """:func:`exchange` in each layer: ``share`` of its living groups, and those on places where ``dead`` is True."""
    masks, found = masks_of(model), {}
    for name, weight in prunable(model).items():
        alive = structure.groups(masks[name].float()) > 0
        gone = None if dead is None else alive & ~(structure.groups((masks[name] & ~dead[name]).float()) > 0)
        choice = exchange(
            alive,
            structure.groups(weight.detach().abs()),
            structure.groups(gradients[name].abs()),
            round(share * int(alive.count_nonzero())),
            gone,
        )
        found[name] = structure.chosen(weight.detach(), choice)
    return found


def born(before: Masks, after: Masks) -> Masks:
    """Places that are new."""
    return {name: after[name] & ~before[name] for name in before}


def check_exchangeable(structure: Structure, name: str) -> None:
    """Raise ValueError for a structure whose pieces cannot be exchanged one by one."""
    require(
        isinstance(structure, (Grid, Block)),
        f"structure {name!r} ties its pieces together, so they cannot be "
        "exchanged: use 'gradual', or a structure such as 'unstructured', 'kernel' or 'block'",
    )


class RigL(Trainer):
    """Start with random masks of the final density, layers by the Erdős-Rényi-Kernel rule; exchange until masks settle."""

    def prepare(self, model: nn.Module) -> None:
        check_exchangeable(self.structure, self.plan.structure)
        scores = random(prunable(model), self.seed)
        attach(model, allocate.masks(scores, self.budget, self.structure, "erk", self.plan.floor))

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        if step % self.plan.every or step >= self.settled:
            return
        before = masks_of(model)
        after = exchanged(model, self.dense_gradients(model, step), self.structure, EXCHANGED * fading(step, self.settled))
        set_masks(model, after)
        self.start_at_zero(model, born(before, after))
