"""EWA (Huang et al., arXiv 2308.06093): deal the tokens out at random, then pull the experts together.

Random uniform partition: permute the T tokens, cut them into E equal parts, one part per expert, one
batched product, no router.  After each optimiser step every expert takes a share β of the others' mean,

    W_i ← (1 - β) W_i + β · mean_{j ≠ i} W_j

so that at the end their mean is a good network: one ordinary FFN, with no added cost at inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.average import mean_for_all
from lib.moe.router import Router
from lib.moe.routing import Routing, routing
from lib.system.checks import require

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig


class RandomPartition(Router):
    """Tokens to experts by a random permutation in training, the averaged expert in evaluation."""

    label, colour, symbol = "Random partition", "#3fae74", "pentagon-open"

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        require(config.experts >= 2, "router 'partition' averages experts: use at least 2")

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        if not self.training:
            return mean_for_all(x_BND, experts)
        x_TD = x_BND.flatten(0, 1)
        T, D = x_TD.shape
        E = self.experts
        order_T = torch.randperm(T, device=x_TD.device)
        place_T = order_T.argsort()
        dealt_TD = F.pad(x_TD[order_T], (0, 0, 0, -T % E))  # zero rows make the parts equal
        y_TD = experts.slots(dealt_TD.view(E, -1, D)).flatten(0, 1)[place_T]
        expert_TK = (place_T // (len(dealt_TD) // E))[:, None]
        gate_TK = torch.ones_like(expert_TK, dtype=torch.float32)
        return y_TD.view(x_BND.shape), routing(expert_TK, gate_TK, E)


@torch.no_grad()
def average_weights(experts: nn.Module, beta: float) -> None:
    """One EWA step on stacked experts [E, ...], in place.

    mean_{j≠i} W_j - W_i = E / (E - 1) · (mean_j W_j - W_i), so the step is a move towards the mean of all,
    and leaves that mean where it is.
    """
    E = experts.w_in.shape[0]
    for stacked in (experts.w_in, experts.b_in, experts.w_out, experts.b_out):
        stacked.lerp_(stacked.mean(0, keepdim=True), beta * E / (E - 1))


def expert_weight_averaging(beta: float, ramp: int = 0) -> Callable[[nn.Module, int], None]:
    """An ``after_step(model, step)`` hook for :func:`lib.training.loop.fit`: EWA on every random-partition layer.

    β grows linearly from 0 over the first ``ramp`` steps.  Raises ValueError for β outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is the share an expert takes from the others, in [0, 1), not {beta}")

    def after_step(model: nn.Module, step: int) -> None:
        share = beta * min(1.0, step / ramp) if ramp else beta
        for layer in model.modules():
            if isinstance(getattr(layer, "router", None), RandomPartition):
                average_weights(layer.experts, share)

    return after_step
