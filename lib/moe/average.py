"""One FFN out of many: run a single expert, or the (weighted) mean of all experts' weights.

The random routers use it: in training one expert works, at inference their average does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.backends import ACTIVATIONS
from lib.moe.routing import Routing, all_experts, routing


class FFN(NamedTuple):
    """Weights of one feed-forward network, y = act(x W_in + b_in) W_out + b_out; P is 2 for swiglu, else 1."""

    w_in: Tensor  # [D, P·H]
    b_in: Tensor  # [P·H]
    w_out: Tensor  # [H, D]
    b_out: Tensor  # [D]


def pair(experts: nn.Module, first: Tensor, second: Tensor) -> FFN:
    """Input layer of expert ``first`` with the output layer of expert ``second``, both indices [1]."""
    return FFN(
        *(
            stacked.index_select(0, index)[0]
            for stacked, index in ((experts.w_in, first), (experts.b_in, first), (experts.w_out, second), (experts.b_out, second))
        )
    )


def average(experts: nn.Module, weight_E: Tensor | None = None) -> FFN:
    """Mean of the experts' weights, uniform or weighted by ``weight_E`` (which is normalised to sum 1)."""
    E = experts.w_in.shape[0]
    if weight_E is None:
        weight_E = experts.w_in.new_ones(E)
    weight_E = (weight_E / weight_E.sum()).to(experts.w_in)
    return FFN(*(torch.einsum("e,e...->...", weight_E, stacked) for stacked in (experts.w_in, experts.b_in, experts.w_out, experts.b_out)))


def feed_forward(x: Tensor, ffn: FFN, activation: str) -> Tensor:
    """y = act(x W_in + b_in) W_out + b_out for x [..., D]."""
    hidden = ACTIVATIONS[activation](F.linear(x, ffn.w_in.T, ffn.b_in))
    return F.linear(hidden, ffn.w_out.T, ffn.b_out)


def draw(experts: int, device: torch.device) -> Tensor:
    """A random expert [1], which stays on the device: nothing waits for it."""
    return torch.randint(experts, (1,), device=device)


def one_for_all(
    x_BND: Tensor,
    experts: nn.Module,
    first: Tensor,
    second: Tensor | None = None,
) -> tuple[Tensor, Routing]:
    """Every token through expert ``first`` [1] (with the output layer of ``second``, if given), gate 1."""
    ffn = pair(experts, first, first if second is None else second)
    B, N, _ = x_BND.shape
    expert_TK = first.expand(B * N, 1)
    gate_TK = torch.ones_like(expert_TK, dtype=torch.float32)
    return (feed_forward(x_BND, ffn, experts.activation), routing(expert_TK, gate_TK, experts.w_in.shape[0]))


def mean_for_all(x_BND: Tensor, experts: nn.Module) -> tuple[Tensor, Routing]:
    """Every token through the mean of the experts' weights."""
    B, N, _ = x_BND.shape
    E = experts.w_in.shape[0]
    share_TE = torch.full((1, 1), 1 / E, device=x_BND.device).expand(B * N, E)
    return (feed_forward(x_BND, average(experts), experts.activation), all_experts(share_TE, share_TE.sum(0)))
