"""Learning rates with which a grown model goes on as the small one would have.

AdamW's update does not see the size of a gradient, so a weight that was divided by n would move n times too fast.  A rate
divided by n puts that right; weight decay, which acts through the rate, then has to be multiplied by n, and eps has to
shrink with the gradient.  Without noise the grown model then follows the small one's training for ever: copies stay equal.
That is what maximal update parametrization does for widths (arXiv 2203.03466, table 8), found here from the other side.

Clipping the norm of the whole gradient does not commute with growth: copies change the norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib.growth.networks import Config, parameter_names
from lib.system.checks import require
from lib.training.optim import FUSED, decays

if TYPE_CHECKING:
    from lib.growth.growth import Growth


@dataclass(frozen=True)
class Factors:
    """What a parameter's learning rate, eps and weight decay are multiplied by."""

    lr: float = 1.0
    eps: float = 1.0
    weight_decay: float = 1.0

    def __mul__(self, other: Factors) -> Factors:
        return Factors(self.lr * other.lr, self.eps * other.eps, self.weight_decay * other.weight_decay)


def factors(config: Config, *growths: Growth) -> dict[str, Factors]:
    """The factors of each parameter of the model that the growths make, in order, of one of ``config``.

    New parameters (a router) train as any parameter would, copies of a block as the block.
    """
    found = {name: Factors() for name in parameter_names(config)}
    for growth in growths:
        grown = growth.config(config)
        found = {name: found.get(growth.source(config, name), Factors()) * growth.rate(config, name) for name in parameter_names(grown)}
        config = grown
    return found


def groups(
    model: nn.Module,
    factors: dict[str, Factors],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """AdamW with one parameter group for each distinct :class:`Factors`, with and without weight decay.

    What decays is decided by :func:`lib.training.optim.decays`, as for every other training.  Names that ``factors`` lacks train
    with factors of 1.  Raises ValueError for factors of parameters that the model lacks.
    """
    unknown = sorted(factors.keys() - {name for name, _ in model.named_parameters()})
    require(not unknown, f"factors of {', '.join(unknown)}: the model has no such parameter; ask for those of its own growths")
    members: dict[tuple[Factors, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        members.setdefault((factors.get(name, Factors()), decays(name, p)), []).append(p)
    made = [
        {"params": ps, "lr": lr * f.lr, "eps": eps * f.eps, "weight_decay": weight_decay * f.weight_decay if decayed else 0.0}
        for (f, decayed), ps in members.items()
    ]
    fused = all(p.device.type in FUSED for p in model.parameters())
    return torch.optim.AdamW(made, lr=lr, betas=betas, eps=eps, fused=fused)
