"""The router's linear layer: logits z = x·W_r, and the precision they are computed in."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

PRECISIONS = ("fp32", "bf16")

#: The fields of :class:`~lib.moe.layer.MoEConfig` that a gate uses, and those of routers that choose k experts by one.
GATE = frozenset({"jitter", "router_precision", "router_init", "router_bias"})
TOP_K = GATE | {"k", "shared", "split"}


class Gate(nn.Module):
    """Router logits [T, E] of features [T, D].

    ``precision="fp32"`` is Switch's *selective precision* (arXiv 2101.03961, sec. 2.4): the router alone
    is computed in fp32 while the rest of the model runs in bf16.  ``"bf16"`` is what it guards against.
    fp64 features stay fp64.

    ``jitter`` multiplies what the router sees (not what the experts compute) by U(1-jitter, 1+jitter)
    in training; Switch uses 1e-2.  ``init_scale`` s: weights ~ N(0, s / D) cut at two standard
    deviations; Switch lowers s from 1 to 0.1.
    """

    def __init__(
        self, d_model: int, experts: int, *, precision: str = "fp32", jitter: float = 0.0, init_scale: float = 0.1, bias: bool = False
    ):
        super().__init__()
        self.precision = precision
        self.jitter = jitter
        self.weight = nn.Parameter(torch.empty(experts, d_model))
        self.bias = nn.Parameter(torch.zeros(experts)) if bias else None
        truncated_normal_(self.weight, math.sqrt(init_scale / d_model))

    @classmethod
    def of(cls, config: MoEConfig, d_model: int) -> Gate:
        """Return the gate of one layer."""
        return cls(
            d_model,
            config.routed,
            precision=config.router_precision,
            jitter=config.jitter,
            init_scale=config.router_init,
            bias=config.router_bias,
        )

    def forward(self, x_TD: Tensor) -> Tensor:
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.promote_types(x_TD.dtype, torch.float32)
        x_TD = x_TD.to(dtype)
        if self.training and self.jitter:
            x_TD = x_TD * torch.empty_like(x_TD).uniform_(1 - self.jitter, 1 + self.jitter)
        bias = None if self.bias is None else self.bias.to(dtype)
        with without_autocast(x_TD.device.type):
            return F.linear(x_TD, self.weight.to(dtype), bias)


def softmax(logits_TE: Tensor) -> Tensor:
    """Softmax over experts in the precision of the logits, returned in at least fp32."""
    with without_autocast(logits_TE.device.type):
        return logits_TE.softmax(-1).to(torch.promote_types(logits_TE.dtype, torch.float32))


def without_autocast(device_type: str) -> contextlib.AbstractContextManager:
    """Switch autocast off on a device that has it."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def truncated_normal_(weight: Tensor, sigma: float) -> Tensor:
    """Fill with N(0, σ²) redrawn beyond 2σ, as Switch and TensorFlow do (so its spread is 0.88 σ)."""
    return nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)
