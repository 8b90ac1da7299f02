"""How long an MoE layer takes, against the dense FFN with the same FLOPs: the two take turns in one process."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.measure.cost import ratio, take_turns
from lib.moe.experts import Experts
from lib.moe.roofline import dense_cost, expert_cost


class RoutedFFN(nn.Module):
    """Router, top-k by softmax, experts: [T, D] to [T, D].  A layer without what a balanced training needs."""

    def __init__(self, experts: int, d_model: int, hidden: int, k: int, backend: str):
        super().__init__()
        self.router = nn.Linear(d_model, experts, bias=False)
        self.experts = Experts(experts, d_model, hidden, backend=backend)
        self.k = k

    def forward(self, x_TD: Tensor) -> Tensor:
        gate_TK, expert_TK = self.route(x_TD)
        return self.experts(x_TD, expert_TK, gate_TK)

    def route(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x_TD, self.router.weight).float().softmax(-1).topk(self.k, dim=-1)


def dense_ffn(d_model: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, d_model))


def training_pass(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward of ``model`` on ``x``, with autocast if ``dtype`` is a 16-bit type.

    Weights stay in fp32.  The gradient of the input is wanted too, as inside a network, and the old
    gradients are given up first, as ``zero_grad`` does.
    """
    x = x.clone().requires_grad_()
    grad = torch.randn_like(x, dtype=dtype)

    def run() -> None:
        x.grad = None
        model.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype.itemsize == 2):
            y = model(x)
        y.backward(grad)

    return run


def backend_cost(
    experts: int, tokens: int, d_model: int, hidden: int, k: int, backend: str, dtype: torch.dtype, device: torch.device, rounds: int
) -> dict[str, float]:
    """One MoE layer against its dense twin, a single FFN of k · ``hidden`` units; forward and backward.

    Tokens are random, and an untrained router sends them to the experts.  With ``ratio``, ``ratio_p05`` and
    ``ratio_p95`` (time of the layer over that of its twin) come ``layer_ms`` and ``dense_ms`` (medians),
    ``largest_load`` (the fullest expert's, over the mean), and from :mod:`lib.moe.roofline` ``flops``,
    ``bytes``, ``dense_flops``, ``dense_bytes``.
    """
    layer = RoutedFFN(experts, d_model, hidden, k, backend).to(device)
    dense = dense_ffn(d_model, k * hidden).to(device)
    x = torch.randn(tokens, d_model, device=device)
    seconds = take_turns({"dense": training_pass(dense, x, dtype), "layer": training_pass(layer, x, dtype)}, rounds, device)

    with torch.no_grad():
        expert_TK = layer.route(x)[1]
    largest_load = int(expert_TK.flatten().bincount().max())
    used = layer.experts.backend_for(expert_TK, dtype)
    cost = expert_cost(used, experts, tokens, d_model, hidden, k, dtype.itemsize, largest_load)
    twin = dense_cost(tokens, d_model, k * hidden, dtype.itemsize)
    return ratio(seconds["layer"], seconds["dense"]) | {
        "layer_ms": 1000 * torch.tensor(seconds["layer"]).median().item(),
        "dense_ms": 1000 * torch.tensor(seconds["dense"]).median().item(),
        "largest_load": largest_load * experts / (tokens * k),
        "flops": cost.flops,
        "bytes": cost.bytes,
        "dense_flops": twin.flops,
        "dense_bytes": twin.bytes,
    }
