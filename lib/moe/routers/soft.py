"""Soft MoE (Puigcerver et al., arXiv 2308.00951): nothing is chosen, so nothing is dropped and all is smooth.

Per image, with N tokens x_m and E·S slots with parameters μ_es:

    logits_mes = s · ⟨x_m / |x_m|, μ_es / |μ_es|⟩        s learned
    D = softmax over tokens m      a slot's input is Σ_m D_mes x_m
    C = softmax over slots (e, s)  a token's output is Σ_es C_mes E_e(slot_es)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lib.moe.gate import truncated_normal_, without_autocast
from lib.moe.router import Router
from lib.moe.routing import Routing, all_experts
from lib.system.checks import require

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig


class SoftMoE(Router):
    """``slots`` per expert.  With E·S = N the experts cost as much as a dense FFN; mixing into slots and back
    costs 4·N·E·S·D FLOPs more, computing their weights 2·N·E·S·D."""

    uses = frozenset({"slots"})
    label, colour, symbol = "Soft MoE", "#f83195", "star"

    def __init__(self, d_model: int, experts: int, *, slots: int):
        super().__init__(experts)
        self.mu_DES = nn.Parameter(torch.empty(d_model, experts, slots))
        self.scale = nn.Parameter(torch.ones(()))
        truncated_normal_(self.mu_DES, 1 / math.sqrt(d_model))

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        require(config.slots is None or config.slots >= 1, f"slots is {config.slots}: use at least 1, or None")

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> SoftMoE:
        require(config.slots or tokens, "router 'soft' needs slots, or the number of tokens of an image")
        return cls(d_model, config.routed, slots=config.slots or -(-tokens // config.routed))

    @classmethod
    def active_parameters(cls, config: MoEConfig, parameters: int) -> int:
        return parameters

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        dispatch_BNES, combine_BNES = self.weights(x_BND)
        B, N, E, S = dispatch_BNES.shape
        slots_EBSD = torch.einsum("bnes,bnd->ebsd", dispatch_BNES.to(x_BND.dtype), x_BND)
        out_EBSD = experts.slots(slots_EBSD.flatten(1, 2)).unflatten(1, (B, S))
        y_BND = torch.einsum("bnes,ebsd->bnd", combine_BNES.to(out_EBSD.dtype), out_EBSD)
        share_TE = combine_BNES.sum(-1).flatten(0, 1)
        return y_BND, all_experts(share_TE, dispatch_BNES.detach().sum((0, 1, 3)), share_TE)

    def weights(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Dispatch weights (sum to 1 over tokens) and combine weights (sum to 1 over slots) [B, N, E, S]."""
        with without_autocast(x_BND.device.type):
            x_BND = unit(x_BND.to(torch.promote_types(x_BND.dtype, torch.float32)), dim=-1)
            logits_BNES = torch.einsum("bnd,des->bnes", x_BND, self.scale * unit(self.mu_DES, dim=0))
            return logits_BNES.softmax(1), logits_BNES.flatten(2).softmax(-1).view(logits_BNES.shape)


def unit(x: Tensor, dim: int) -> Tensor:
    """x / √(|x|² + 1e-6), as in the authors' code."""
    return x * torch.rsqrt(x.square().sum(dim, keepdim=True) + 1e-6)
