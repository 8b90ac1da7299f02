"""Expert choice (Zhou et al., arXiv 2202.09368): each expert takes its top tokens, so the load is even by design.

    S = softmax(X W_r)                      token-to-expert scores          [N, E]
    G, I = top C of Sᵀ                      each expert's tokens, and gates [E, C]      (sec. 3.2)
    y_t = Σ_{e takes t} S_te E_e(x_t)       C = ⌈CF · N / E⌉

A token may be taken by several experts or by none.  Which ones depends on the other tokens it competes
with: over the whole batch (``group="batch"``, as in the paper) an image's prediction changes with its
neighbours in the batch; among its own tokens (``group="image"``) it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.capacity import capacity
from lib.moe.gate import GATE, Gate, softmax
from lib.moe.router import Router
from lib.moe.routing import Routing
from lib.system.checks import one_of

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

GROUPS = ("image", "batch")


class ExpertChoice(Router):
    """Gather and scatter are products with the one-hot matrix of the paper, so results are reproducible bit
    by bit.  That costs CF · N² multiply-adds per feature: little for an image's tokens, not for a batch's.
    """

    uses = GATE | {"capacity_factor", "group"}
    learned = True
    label, colour, symbol = "Expert choice", "#ea5645", "triangle-down"

    def __init__(self, gate: Gate, experts: int, *, capacity_factor: float, group: str):
        super().__init__(experts)
        self.gate = gate
        self.capacity_factor, self.group = capacity_factor, group

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        one_of("group", config.group, GROUPS)

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> ExpertChoice:
        return cls(Gate.of(config, d_model), config.routed, capacity_factor=config.capacity_factor, group=config.group)

    @classmethod
    def active_parameters(cls, config: MoEConfig, parameters: int) -> int:
        return round(parameters * min(1, config.capacity_factor / config.experts))

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        x_GND = x_BND if self.group == "image" else x_BND.flatten(0, 1)[None]
        G, N, D = x_GND.shape
        E = self.experts
        C = min(N, capacity(N, E, 1, self.capacity_factor))

        probs_GNE = softmax(self.gate(x_GND))
        gate_GEC, token_GEC = probs_GNE.transpose(1, 2).topk(C, dim=-1)
        take_GECN = F.one_hot(token_GEC, N).to(x_BND.dtype)

        slots_GECD = torch.einsum("gecn,gnd->gecd", take_GECN, x_GND)
        slots_ESD = experts.slots(slots_GECD.transpose(0, 1).reshape(E, G * C, D))
        out_GECD = slots_ESD.view(E, G, C, D).transpose(0, 1)
        give_GECN = take_GECN * gate_GEC[..., None]
        y_GND = torch.einsum("gecn,gecd->gnd", give_GECN.to(out_GECD.dtype), out_GECD)

        taken_TE = take_GECN.sum(2).transpose(1, 2).reshape(-1, E) > 0
        expert_TE = torch.where(taken_TE, torch.arange(E, device=x_BND.device), -1)
        probs_TE = probs_GNE.flatten(0, 1)
        return y_GND.reshape(x_BND.shape), Routing(
            expert_TE,
            torch.where(taken_TE, probs_TE, 0),
            probs_TE,
            load_E=taken_TE.sum(0).float(),
            dropped=(~taken_TE.any(-1)).sum() / max(1, len(taken_TE)),
        )
