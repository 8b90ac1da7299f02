"""Logit standardisation in knowledge distillation (Sun et al. 2024, arXiv 2403.01427).

A student of little capacity cannot have logits as large as its teacher's and need not: each network's logits are centred and
scaled before they are compared, so that only their shape counts.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features


def standardised(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """(z - mean) / (standard deviation + ε) over the classes of each image [B, classes] (algorithm 1, with n - 1 below)."""
    return (logits - logits.mean(-1, keepdim=True)) / (eps + logits.std(-1, keepdim=True))


def standardised_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """T² · KL(softmax(Z(v) / T) ‖ softmax(Z(z) / T)), mean over the batch, of student z and teacher v [B, classes].

    With Z the standardisation, T is the *base* temperature, since each image is also divided by its own deviation.  The
    paper weighs this by 9 against 0.1 for the labels.  No gradient passes to the teacher.
    """
    student = F.log_softmax(standardised(student_logits) / temperature, -1)
    teacher = F.log_softmax(standardised(teacher_logits.detach()) / temperature, -1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class Standardised(nn.Module):
    """:func:`standardised_loss` as a term."""

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return standardised_loss(student.logits, teacher.logits, self.temperature)
