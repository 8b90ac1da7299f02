"""The loss of one elastic training step: several sub-networks on one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from lib.elastic.config import Space
from lib.elastic.samplers import Sampler
from lib.elastic.supernet import ElasticViT
from lib.moe.diagnostics import routing_logs


def elastic_loss(sampler: Sampler, space: Space, progress: Callable[[], float], label_smoothing: float = 0.0):
    """Weighted mean over the sampler's passes of task loss and balance losses, as a loss for :func:`lib.training.loop.fit`.

    A pass's task is ``label`` · cross-entropy with the labels + ``teacher`` · cross-entropy with the first pass's
    prediction, through which no gradient flows: in-place distillation (US-Nets, arXiv 1903.05134, sec. 3.3).
    The papers sum over passes; the mean, which Adam cannot tell from it, keeps gradient clipping comparable.
    ``progress`` tells how much of the training is over.

    Logs ``train_loss_first``, the task loss of the step's first sub-network, and its routing, in which the experts
    that this sub-network leaves out count as unused: ``dead_experts`` and ``load_entropy`` are of all experts.
    """

    def loss(model: ElasticViT, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        total, weight, logs, teacher = 0.0, 0.0, {}, None
        tokens = model.tokens(inputs)  # all sub-networks share what makes them: once a step
        for one in sampler.passes(space, progress()):
            logits, routings = model.select(one.subnet).routed(tokens)
            task = 0.0
            if one.label:
                task = task + one.label * F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
            if one.teacher:
                task = task + one.teacher * F.cross_entropy(logits, teacher)
            share = one.label + one.teacher
            total, weight = total + task + share * sum(routing.loss for routing in routings), weight + share
            if teacher is None:
                teacher = logits.detach().softmax(-1)
                logs = {"train_loss_first": task.detach() / share} | routing_logs(routings)
        return total / weight, logs

    return loss
