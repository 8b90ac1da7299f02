"""Distilling a sparse model into a dense one, Switch's way (arXiv 2101.03961, sec. 4.2).

The student starts with all of the teacher's weights except the experts, and learns from a mixture of 0.25
teacher probabilities and 0.75 labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def copy_non_expert_weights(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Copy into a dense student each weight that the sparse teacher has under the same name and shape.

    Experts and routers have other names than a dense FFN, so everything else is copied.  Returns the names.
    """
    theirs, copied = teacher.state_dict(), []
    for name, tensor in student.state_dict().items():
        if name in theirs and theirs[name].shape == tensor.shape:
            tensor.copy_(theirs[name])
            copied.append(name)
    return copied


def sparse_to_dense_loss(teacher: nn.Module, teacher_weight: float = 0.25, label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit`: λ · CE(teacher probabilities) + (1 - λ) · CE(labels), λ = 0.25.

    Puts the teacher into evaluation mode.  Logs ``agreement``: how often both predict the same class.
    """
    teacher.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            taught = teacher(inputs)
        logits = model(inputs)
        agreement = (logits.detach().argmax(-1) == taught.argmax(-1)).float().mean()
        return (
            teacher_weight * F.cross_entropy(logits, taught.softmax(-1))
            + (1 - teacher_weight) * F.cross_entropy(logits, targets, label_smoothing=label_smoothing),
            {"agreement": agreement},
        )

    return loss
