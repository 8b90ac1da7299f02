"""Routers that may only use some of their experts: the others' logits are -∞ before the softmax.

Probabilities, gates and balance are then those of a layer that never had the others, which is what makes
cutting them out exact.  Removing experts after the softmax instead would leave probabilities that do not add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.elastic.subnet import Units
from lib.moe.balance import bias_step, switch_loss
from lib.moe.gate import softmax
from lib.moe.router import TokenRouter
from lib.moe.routers.bias import BiasBalanced
from lib.moe.routers.token_choice import TokenChoice, gates
from lib.moe.routing import Routing, count, routing
from lib.system.checks import require

#: Weight of the loss that sharpens the router where experts are drawn from a pool: our choice, the paper's is not known
#: to us.  Whoever changes it raises the version of ElasticRun, whose results depend on it.
SHARPEN = 0.01


class Masked(TokenRouter):
    """What masked routers share: which experts are off, how many are on, and k; at first none is off."""

    off_E: Tensor
    pool: int | None = None

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("off_E", torch.zeros(self.experts, dtype=torch.bool), persistent=False)
        self.active = self.experts

    def use(self, experts: Units, k: int, pool: int | None = None) -> None:
        self.active, self.k, self.pool = len(experts), k, pool
        self.off_E = off(experts, self.experts, self.off_E.device)


class MaskedTokenChoice(Masked, TokenChoice):
    """:class:`~lib.moe.routers.token_choice.TokenChoice` among the active experts, without capacity and z-loss.

    With a ``pool``, a training token's k experts are a random subset of its best ``pool`` (Elastic MoE, arXiv
    2509.21892), gates are normalised over them (p itself for k = 1), and the router's entropy is added to the loss:
    as a KL divergence from the uniform distribution, the paper's hierarchical router loss.  We know both from
    descriptions, not from the paper's formulas.
    """

    def route(self, x_TD: Tensor) -> Routing:
        logits_TE = self.gate(x_TD).masked_fill(self.off_E, -torch.inf)
        probs_TE = softmax(logits_TE)
        if self.training and self.pool:
            return self.drawn(probs_TE)
        expert_TK = probs_TE.topk(self.k, dim=-1).indices
        losses = {}
        if self.training and self.balance:
            # Switch's loss is α · E · Σ f P; inactive experts add nothing to the sum, and E is what is active.
            losses["balance"] = switch_loss(probs_TE, expert_TK, self.balance * self.active / self.experts)
        return routing(expert_TK, gates(probs_TE, expert_TK, self.single_gate), self.experts, probs_TE, losses)

    def drawn(self, probs_TE: Tensor) -> Routing:
        """Each token's k experts drawn from its best ``pool``."""
        pool_TP = probs_TE.topk(self.pool, dim=-1).indices
        place_TK = torch.rand_like(pool_TP, dtype=probs_TE.dtype).topk(self.k, dim=-1).indices
        expert_TK = pool_TP.gather(-1, place_TK)
        gate_TK = probs_TE.gather(-1, expert_TK)
        if self.k > 1:
            gate_TK = gate_TK / gate_TK.sum(-1, keepdim=True)
        tiny = torch.finfo(probs_TE.dtype).tiny  # the slope of p log p at 0 is infinite
        entropy = torch.special.entr(probs_TE.clamp(min=tiny)).sum(-1).mean()
        losses = {"balance": switch_loss(probs_TE, expert_TK, self.balance * self.active / self.experts), "sharpen": SHARPEN * entropy}
        return routing(expert_TK, gate_TK, self.experts, probs_TE, losses)


class MaskedBiasBalanced(Masked, BiasBalanced):
    """:class:`~lib.moe.routers.bias.BiasBalanced` among the active experts; only their biases move."""

    def use(self, experts: Units, k: int, pool: int | None = None) -> None:
        require(pool is None, "experts are drawn from a pool by router 'switch' only")
        super().use(experts, k)

    def route(self, x_TD: Tensor) -> Routing:
        logits_TE = self.gate(x_TD).masked_fill(self.off_E, -torch.inf)
        scores_TE = softmax(logits_TE) if self.scores == "softmax" else logits_TE.sigmoid()
        # Masked once more: a positive bias would bring an inactive expert's score of 0 back.
        chosen_by_TE = (scores_TE + self.bias_E).masked_fill(self.off_E, -torch.inf)
        expert_TK = chosen_by_TE.topk(self.k, dim=-1).indices
        gate_TK = scores_TE.gather(-1, expert_TK)
        if self.k > 1:
            gate_TK = gate_TK / gate_TK.sum(-1, keepdim=True)
        if self.training:
            with torch.no_grad():
                self.bias_E += bias_step(count(expert_TK, self.experts), self.rate, ~self.off_E)
        return routing(expert_TK, gate_TK, self.experts, scores_TE)


def off(experts: Units, of: int, device: torch.device) -> Tensor:
    """True for each of ``of`` experts that is not among ``experts``."""
    mask_E = torch.ones(of, dtype=torch.bool)
    mask_E[list(experts)] = False
    return mask_E.to(device, non_blocking=True)  # small enough to be copied at once: nobody waits
