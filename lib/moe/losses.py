"""Training losses of models with MoE layers: of a classifier, and of a language model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.diagnostics import routing_logs


def moe_classification_loss(label_smoothing: float = 0.0):
    """Cross-entropy plus the routers' auxiliary losses, as a loss for :func:`lib.training.loop.fit`.

    Targets are class indices [B] or probabilities [B, C].  Logs: see
    :func:`lib.moe.diagnostics.routing_logs`.  THOR and AdaMix have losses of their own.
    """

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, routings = model.with_routing(inputs)
        task = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return task + sum(routing.loss for routing in routings), routing_logs(routings)

    return loss


def moe_language_model_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy per token, in nats, of tokens [B, N], plus the routers' auxiliary losses.

    Logs ``task_loss``, the first of them alone, and :func:`lib.moe.diagnostics.routing_logs`.
    """
    logits, routings = model.with_routing(inputs)
    task = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
    return task + sum(routing.loss for routing in routings), {"task_loss": task.detach()} | routing_logs(routings)
