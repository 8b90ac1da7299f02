"""Is the grown model what it should be?  By its outputs, by its tensors, and by what its routers do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.growth.structure import structure
from lib.models.gpt import GPT
from lib.moe.diagnostics import load_entropy
from lib.moe.gate import Gate
from lib.moe.routing import Routing
from lib.system.checks import require

#: Tolerances by type: fp64 in logits, the others relative to the logits' standard deviation.  An absolute one for fp32
#: would fail correct growth: rounding alone is 2e-5 at logits of standard deviation 5.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found.

    ``max_difference``  largest difference of two logits;  ``logit_std``: of the logits before;  ``relative``: their ratio,
                    infinite where a function of no spread was changed, not a number where a logit is none
    ``loss_before``, ``loss_after``  nats per token
    ``structure``  see :func:`lib.growth.structure.structure`
    ``router``     empty without experts.  ``logit_std`` over experts (mean over tokens and layers), and of the worst layer:
                   ``load_entropy`` (1: even), ``least_share`` of the assignments that one expert gets, and ``ties``: the
                   share of tokens whose last chosen expert scores exactly as the first one that was not chosen
    """

    max_difference: float
    logit_std: float
    relative: float
    loss_before: float
    loss_after: float
    structure: dict[str, float]
    router: dict[str, float]

    def passed(self, dtype: torch.dtype) -> bool:
        """Whether the function is kept, in models of ``dtype``.  Raises ValueError for one without a tolerance."""
        require(dtype in TOLERANCE, f"no tolerance is set for {dtype}: verify in float64 or float32")
        return (self.max_difference if dtype == torch.float64 else self.relative) <= TOLERANCE[dtype]


@torch.no_grad()
def verify(before: GPT, after: GPT, tokens_BN: Tensor) -> Report:
    """Compare two models on ``tokens_BN``, int64, in evaluation mode (no dropout, nothing dropped); their modes stay."""
    with evaluating(before), evaluating(after), router_logits(after) as logits_LTE:
        expected = before(tokens_BN)
        made, routings = after.with_routing(tokens_BN)
    difference, std = float((made - expected).abs().max()), float(expected.std())
    gate_sum = float(torch.stack([routing.gate_TK.sum(-1).mean() for routing in routings]).mean()) if routings else 1.0
    # Logits that are all equal, or none, are left by training that diverged.
    relative = difference / std if std > 0 else math.inf if difference > 0 else difference
    return Report(
        difference,
        std,
        relative,
        next_token_loss(expected, tokens_BN),
        next_token_loss(made, tokens_BN),
        structure(before, after, gate_sum),
        router_health(logits_LTE, routings),
    )


def next_token_loss(logits_BNV: Tensor, tokens_BN: Tensor) -> float:
    """Cross-entropy in nats of each token but the first."""
    return float(F.cross_entropy(logits_BNV[:, :-1].flatten(0, 1), tokens_BN[:, 1:].flatten()))


def router_health(logits_LTE: list[Tensor], routings: list[Routing]) -> dict[str, float]:
    """See :class:`Report`."""
    if not routings:
        return {}
    load_LE = torch.stack([routing.load_E for routing in routings])
    K = routings[0].expert_TK.shape[1]
    ordered = torch.stack(logits_LTE).sort(-1, descending=True).values
    tied = (ordered[..., K - 1] == ordered[..., K]).float() if K < ordered.shape[-1] else torch.zeros(1, 1)
    return {
        "logit_std": float(ordered.std(-1, unbiased=False).mean()),
        "load_entropy": float(load_entropy(load_LE).min()),
        "least_share": float((load_LE / load_LE.sum(-1, keepdim=True)).min()),
        "ties": float(tied.mean(-1).max()),
    }


@contextmanager
def router_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what each router computes [T, E], in the order of the layers."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: seen.append(output))
        for module in model.modules()
        if isinstance(module, Gate)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to the mode before."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
