"""The training loss of a classifier with MoE layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lib.moe.diagnostics import routing_logs


def moe_classification_loss(label_smoothing: float = 0.0):
    """Cross-entropy plus the routers' auxiliary losses, as a loss for :func:`lib.train.fit`.

    Targets are class indices [B] or probabilities [B, C].  Logs: see
    :func:`lib.moe.diagnostics.routing_logs`.  THOR and AdaMix have losses of their own.
    """

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, routings = model.with_routing(inputs)
        task = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        return task + sum(routing.loss for routing in routings), routing_logs(routings)

    return loss
