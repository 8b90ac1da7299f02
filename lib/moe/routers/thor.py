"""THOR (Zuo et al., arXiv 2110.04260): experts at random, made to agree.

In training every layer draws one expert for the whole batch.  Each batch passes twice, through two
independent draws, and the two predictions p and q are pulled together (as in the authors' code):

    L = CE(p) + CE(q) + α · ½ [KL(p‖q) + KL(q‖p)]          α = 5 in their IWSLT'14 script

Inference in the paper draws again, an expert per sentence or per token.  ``inference="random"`` does that
per image, with draws that are always the same; the default ``"average"`` uses the mean of the experts'
weights, which is one FFN (and AdaMix's finding).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.average import draw, mean_for_all, one_for_all
from lib.moe.router import Router
from lib.moe.routing import Routing, routing
from lib.system.checks import one_of

if TYPE_CHECKING:
    from lib.moe.layer import MoEConfig

INFERENCE = ("average", "random")


class Thor(Router):
    """One random expert per layer and batch.

    The experts are one stacked tensor, so an expert that was not drawn has a zero gradient, not a missing
    one: momentum and weight decay still act on it.
    """

    uses = frozenset({"inference"})
    label, colour, symbol = "THOR", "#cba000", "x"

    def __init__(self, experts: int, *, inference: str):
        super().__init__(experts)
        self.inference = inference

    @classmethod
    def check(cls, config: MoEConfig) -> None:
        one_of("inference", config.inference, INFERENCE)

    @classmethod
    def of(cls, config: MoEConfig, d_model: int, tokens: int | None) -> Thor:
        return cls(config.routed, inference=config.inference)

    def forward(self, x_BND: Tensor, experts: nn.Module, id_BN: Tensor | None = None) -> tuple[Tensor, Routing]:
        if self.training:
            return one_for_all(x_BND, experts, draw(self.experts, x_BND.device))
        if self.inference == "average":
            return mean_for_all(x_BND, experts)
        B, N, _ = x_BND.shape
        always_the_same = torch.Generator().manual_seed(0)
        expert_B = torch.randint(self.experts, (B,), generator=always_the_same).to(x_BND.device)
        expert_TK = expert_B.repeat_interleave(N)[:, None]
        gate_TK = torch.ones_like(expert_TK, dtype=torch.float32)
        y_TD = experts(x_BND.flatten(0, 1), expert_TK, gate_TK)
        return y_TD.view(x_BND.shape), routing(expert_TK, gate_TK, self.experts)


def thor_loss(alpha: float = 5.0, label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit` that makes THOR's two passes."""

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        p, q = model(inputs), model(inputs)
        task = F.cross_entropy(p, targets, label_smoothing=label_smoothing) + F.cross_entropy(q, targets, label_smoothing=label_smoothing)
        agree = symmetric_kl(p, q)
        return task + alpha * agree, {"consistency": agree.detach()}

    return loss


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """½ [KL(p‖q) + KL(q‖p)] = ½ Σ_c (p_c - q_c)(log p_c - log q_c) of two logits [B, C], mean over B."""
    log_p, log_q = F.log_softmax(p, -1), F.log_softmax(q, -1)
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()
