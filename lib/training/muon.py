"""Muon: momentum whose update is made orthogonal (Jordan 2024, https://kellerjordan.github.io/posts/muon/).

``torch.optim.Muon`` takes matrices only and always iterates in bfloat16, which a CPU without units for it computes
several times slower than fp32.  This one also takes convolutions and stacked experts, and iterates over all
matrices of one shape at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.system.precision import has_bf16_units

#: Coefficients of the quintic a·x + b·x³ + c·x⁵ that pulls singular values towards 1, from the same source.
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Steps w ← (1 - lr·λ)·w - lr·0.2·√max(rows, columns)·orthogonal(momentum), with Nesterov's look ahead.

    The factor 0.2·√max(rows, columns) gives the update AdamW's root mean square (arXiv 2502.16982, section 2.2), so
    that one ``lr`` and one ``weight_decay`` λ serve both optimisers.  A weight [O, …] of a linear layer or a
    convolution is one matrix [O, rest]; one of stacked experts [E, d, h] is E matrices.

    iterations: of Newton-Schulz; singular values then lie between about 0.5 and 1.5, which serves as well as 1.
    Raises ValueError for a parameter that is a vector.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95, iterations: int = 5):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(f"Muon updates matrices; a parameter of shape {tuple(p.shape)} belongs to another optimiser")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            for params in by_shape(p for p in group["params"] if p.grad is not None).values():
                self.update(params, group)

    def update(self, params: list[Tensor], group: dict) -> None:
        """One step of parameters that have one shape."""
        lr, momentum = group["lr"], group["momentum"]
        buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
        grads = [p.grad for p in params if p.grad is not None]  # all have one
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, buffers, momentum)
        update_KRC = orthogonal(torch.cat([matrices(g) for g in ahead]), group["iterations"])
        scale = 0.2 * max(update_KRC.shape[1:]) ** 0.5
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        for p, update in zip(params, update_KRC.chunk(len(params))):
            p.add_(update.view_as(p), alpha=-lr * scale)


def by_shape(params: Iterable[Tensor]) -> dict[torch.Size, list[Tensor]]:
    groups = defaultdict(list)
    for p in params:
        groups[p.shape].append(p)
    return groups


def matrices(weight: Tensor) -> Tensor:
    """Return the matrices [K, rows, columns] that a weight consists of: one, or one per stacked expert."""
    return weight if weight.ndim == 3 else weight.reshape(1, len(weight), -1)


def orthogonal(x_KRC: Tensor, iterations: int) -> Tensor:
    """Return matrices [K, R, C] of the same singular vectors with all singular values near 1, in the given dtype.

    Computed in bfloat16 where the device has units for it.
    """
    dtype = x_KRC.dtype
    x_KRC = x_KRC / x_KRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if has_bf16_units(x_KRC.device):
        x_KRC = x_KRC.bfloat16()
    tall = x_KRC.shape[1] > x_KRC.shape[2]
    if tall:
        x_KRC = x_KRC.mT
    a, b, c = QUINTIC
    for _ in range(iterations):
        gram = x_KRC @ x_KRC.mT
        x_KRC = torch.baddbmm(x_KRC, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x_KRC, beta=a)
    return (x_KRC.mT if tall else x_KRC).to(dtype)
