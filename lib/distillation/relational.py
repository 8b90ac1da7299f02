"""Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068).

What is passed on is how the images of a batch lie to one another: their distances, and the angles of triples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features

#: Squared distances are kept above this, where the root's gradient is finite.
LEAST = 1e-12


def distances(x_BD: Tensor) -> Tensor:
    """Euclidean distances of all pairs, divided by the mean of those above zero: [B, B] (equations 4 and 5)."""
    square = x_BD.pow(2).sum(1)
    squared = (square[:, None] + square[None] - 2 * x_BD @ x_BD.T).clamp(min=LEAST)
    off = ~torch.eye(len(x_BD), dtype=torch.bool, device=x_BD.device)
    distance = torch.where(off, squared.sqrt(), 0.0)
    apart = distance > LEAST**0.5  # copies of one image lie at no distance from each other and have no say in the mean
    return distance / (distance.sum() / apart.sum().clamp(min=1)).clamp(min=LEAST)


def angles(x_BD: Tensor) -> Tensor:
    """Cosine of the angle at i between j and k, for all triples: [B, B, B] (equation 7)."""
    towards = F.normalize(x_BD[None] - x_BD[:, None], dim=2)
    return towards @ towards.transpose(1, 2)


def relational_loss(student_BD: Tensor, teacher_BD: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0) -> Tensor:
    """Huber loss of the distances times 25 plus that of the angles times 50, each the mean over all pairs or triples.

    student [B, D], teacher [B, D'].  Equations 6, 8 and 9 of the paper; the mean includes pairs and triples of an image with
    itself, which are zero, as in the authors' code.  Takes memory B²·D.  No gradient passes to the teacher.
    """
    teacher_BD = teacher_BD.detach()
    return distance_weight * F.smooth_l1_loss(distances(student_BD), distances(teacher_BD)) + angle_weight * F.smooth_l1_loss(
        angles(student_BD), angles(teacher_BD)
    )


class Relational(nn.Module):
    """:func:`relational_loss` of the pooled features."""

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return relational_loss(student.pooled, teacher.pooled)
