"""Token choice: each token goes to the k experts its router likes best, y = Σ_{i ∈ top k} g_i E_i(x).

:class:`TokenChoice` is Switch (arXiv 2101.03961) for k = 1 and GShard-like for k > 1;
:class:`NoisyTokenChoice` is V-MoE (arXiv 2106.05974), which explores by noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.moe.balance import importance_loss, load_loss, switch_loss, z_loss
from lib.moe.capacity import POLICIES, capacity, limit
from lib.moe.gate import TOP_K, Gate, softmax
from lib.moe.router import TokenRouter
from lib.moe.routing import Routing, routing
from lib.system.checks import one_of, require

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

#: What the gate of a single expert is: its probability, or its share of the two best.
SINGLE_GATES = ("probability", "share")


class TokenChoice(TokenRouter):
    """z = x W_r (fp32), p = softmax(z), the top k of p, and Switch's balance loss."""

    uses = TOP_K | {"balance", "z_loss", "policy", "capacity_factor", "single_gate"}
    label, colour, symbol = "Switch", "#3654b8", "circle"

    def __init__(
        self,
        gate: Gate,
        experts: int,
        k: int,
        *,
        balance: float,
        z_weight: float,
        policy: str,
        capacity_factor: float,
        single_gate: str = "probability",
    ):
        super().__init__(gate, experts, k)
        self.single_gate = single_gate
        self.balance, self.z_weight = balance, z_weight
        self.policy, self.capacity_factor = policy, capacity_factor

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        limits(config)
        one_of("single_gate", config.single_gate, SINGLE_GATES)

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> TokenChoice:
        return cls(
            Gate.of(config, d_model),
            config.routed,
            config.chosen,
            balance=config.balance,
            z_weight=config.z_loss,
            policy=config.policy,
            capacity_factor=config.capacity_factor,
            single_gate=config.single_gate,
        )

    def route(self, x_TD: Tensor) -> Routing:
        logits_TE = self.gate(x_TD)
        probs_TE = softmax(logits_TE)
        expert_TK = probs_TE.topk(self.k, dim=-1).indices
        losses = {}
        if self.training and self.balance:
            losses["balance"] = switch_loss(probs_TE, expert_TK, self.balance)
        if self.training and self.z_weight:
            losses["z"] = self.z_weight * z_loss(logits_TE)

        if self.training:
            C = capacity(len(x_TD), self.experts, self.k, self.capacity_factor)
            expert_TK = limit(expert_TK, probs_TE, C, self.policy)
        return routing(expert_TK, gates(probs_TE, expert_TK, self.single_gate), self.experts, probs_TE, losses)


def limits(config: MoEConfig) -> None:
    """Check who is dropped beyond an expert's capacity.  Raises ValueError for what does not exist or fit."""
    one_of("policy", config.policy, POLICIES)
    require(
        config.policy != "second-choice" or config.chosen < config.routed,
        "policy 'second-choice' needs an expert outside the top k: lower k or use another policy",
    )


def gates(probs_TE: Tensor, expert_TK: Tensor, single_gate: str = "probability") -> Tensor:
    """g_i = p_i / Σ_{top k} p for k > 1 (dropped ones count in the sum), p_i for k = 1; 0 where dropped.

    With k = 1 the quotient would be p / p = 1: a constant, through which the task loss could not teach
    the router anything.  Switch therefore scales its one expert by p itself.  ``single_gate="share"`` is ours,
    for networks whose k varies: p_1 / (p_1 + p_2) also has a gradient, and does not shrink with E.
    """
    gate_TK = probs_TE.gather(-1, expert_TK.clamp(min=0))
    k, E = expert_TK.shape[-1], probs_TE.shape[-1]
    if k > 1 or single_gate == "share":
        gate_TK = gate_TK / probs_TE.topk(min(max(k, 2), E), dim=-1).values.sum(-1, keepdim=True)
    return torch.where(expert_TK < 0, 0, gate_TK)


class NoisyTokenChoice(TokenRouter):
    """V-MoE: p = softmax(z + ε), ε ~ N(0, 1/E²); g = top k of p, not renormalised (sec. 2).

    Auxiliary loss λ · (½ importance + ½ load) (app. A).  Noise and load loss exist in training only, and so does the limit of
    places, unless ``limits_inference`` is set: what the paper's figures on capacity are about (sec. 4).
    """

    uses = TOP_K | {"balance", "policy", "capacity_factor"}
    label, colour, symbol = "V-MoE", "#7645ff", "diamond"

    def __init__(self, gate: Gate, experts: int, k: int, *, balance: float, policy: str, capacity_factor: float):
        super().__init__(gate, experts, k)
        self.balance = balance
        self.policy, self.capacity_factor = policy, capacity_factor
        self.limits_inference = False

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        limits(config)

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> NoisyTokenChoice:
        return cls(
            Gate.of(config, d_model),
            config.routed,
            config.chosen,
            balance=config.balance,
            policy=config.policy,
            capacity_factor=config.capacity_factor,
        )

    def route(self, x_TD: Tensor) -> Routing:
        logits_TE = self.gate(x_TD)
        C = capacity(len(x_TD), self.experts, self.k, self.capacity_factor)
        if not self.training:
            probs_TE = softmax(logits_TE)
            gate_TK, expert_TK = probs_TE.topk(self.k, dim=-1)
            if self.limits_inference:
                expert_TK = limit(expert_TK, probs_TE, C, self.policy)
                gate_TK = torch.where(expert_TK < 0, 0, gate_TK)
            return routing(expert_TK, gate_TK, self.experts, probs_TE)

        sigma = 1 / self.experts
        noisy_TE = logits_TE + sigma * torch.randn_like(logits_TE)
        probs_TE = softmax(noisy_TE)
        losses = {
            "importance": self.balance / 2 * importance_loss(softmax(logits_TE)),
            "load": self.balance / 2 * load_loss(logits_TE, noisy_TE, self.k, sigma),
        }
        expert_TK = limit(probs_TE.topk(self.k, dim=-1).indices, probs_TE, C, self.policy)
        gate_TK = torch.where(expert_TK < 0, 0, probs_TE.gather(-1, expert_TK.clamp(min=0)))
        return routing(expert_TK, gate_TK, self.experts, probs_TE, losses)
