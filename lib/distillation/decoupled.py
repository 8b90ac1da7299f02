"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679).

KL(teacher ‖ student) falls apart into a part about the target class against all others, and a part about the others
among themselves, which plain distillation weighs by 1 - p(target): little where the teacher is sure.  Here each part
has a weight of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features


def parts(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD), each a mean over the batch without T²; logits [B, classes], labels int64 [B].

    With p the teacher's softened probability of the label, KL(teacher ‖ student) of one image is
    TCKD + (1 - p) · NCKD (equation 5).  No gradient passes to the teacher.
    """
    return tuple(part.mean() for part in parts_by_image(student_logits, teacher_logits, labels, temperature))


def parts_by_image(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD) of each image [B]."""
    target = F.one_hot(labels, student_logits.shape[-1]).bool()
    found = [halves(logits / temperature, target) for logits in (student_logits, teacher_logits.detach())]
    return tuple((other.exp() * (other - own)).sum(-1) for own, other in zip(*found))


def halves(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (target, not target) [B, 2], and of the other classes among themselves [B, classes - 1]."""
    rest = logits[~target].view(len(logits), -1)
    whole = logits.logsumexp(-1)
    return torch.stack([logits[target] - whole, rest.logsumexp(-1) - whole], -1), rest.log_softmax(-1)


def decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """T² (α · TCKD + β · NCKD), equation 7.

    The paper sets β for each pair of networks: 8 for ResNet-32×4 → 8×4 on CIFAR-100, which is the default, between 2 and
    8 elsewhere.
    """
    target, others = parts(student_logits, teacher_logits, labels, temperature)
    return temperature**2 * (alpha * target + beta * others)


class Decoupled(nn.Module):
    """:func:`decoupled_loss` as a term; its labels must be classes."""

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return decoupled_loss(student.logits, teacher.logits, targets, self.temperature)
