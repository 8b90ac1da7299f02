"""Loss-free balancing (Wang et al., arXiv 2408.15664): a bias decides who is chosen, never how much it counts.

    chosen = top k of s_i + b_i          s = sigmoid(z), or softmax(z)
    g_i    = s_i                         (k = 1),   s_i / Σ_chosen s   (k > 1)
    b_i   += u · sign(mean load - load_i)           after each training batch

No auxiliary loss, so no gradient works against the task.  Dividing by the sum for k > 1 is
DeepSeek-V3's addition (arXiv 2412.19437, sec. 2.1.2); centring the step of b is torchtitan's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.moe.balance import bias_step
from lib.moe.gate import TOP_K, Gate, softmax
from lib.moe.router import TokenRouter
from lib.moe.routing import Routing, count, routing
from lib.system.checks import one_of, require

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

SCORES = ("sigmoid", "softmax")


class BiasBalanced(TokenRouter):
    """Top-k token choice balanced by a bias b that is a buffer, not a parameter."""

    uses = TOP_K | {"scores", "bias_rate"}
    label, colour, symbol = "Loss-free bias", "#00acf4", "triangle-up"

    bias_E: Tensor

    def __init__(self, gate: Gate, experts: int, k: int, *, rate: float, scores: str):
        super().__init__(gate, experts, k)
        self.rate, self.scores = rate, scores
        self.register_buffer("bias_E", torch.zeros(experts))

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        one_of("scores", config.scores, SCORES)
        require(config.bias_rate >= 0, f"bias_rate is {config.bias_rate}: it must not be negative")

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> BiasBalanced:
        return cls(Gate.of(config, d_model), config.routed, config.chosen, rate=config.bias_rate, scores=config.scores)

    def route(self, x_TD: Tensor) -> Routing:
        logits_TE = self.gate(x_TD)
        scores_TE = softmax(logits_TE) if self.scores == "softmax" else logits_TE.sigmoid()
        expert_TK = (scores_TE + self.bias_E).topk(self.k, dim=-1).indices
        gate_TK = scores_TE.gather(-1, expert_TK)
        if self.k > 1:
            gate_TK = gate_TK / gate_TK.sum(-1, keepdim=True)
        if self.training:
            with torch.no_grad():
                self.bias_E += bias_step(count(expert_TK, self.experts), self.rate)
        return routing(expert_TK, gate_TK, self.experts, scores_TE)
