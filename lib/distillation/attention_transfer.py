"""Paying more attention to attention (Zagoruyko and Komodakis 2017, arXiv 1612.03928).

The student learns where the teacher's features are large, not what they are, so widths may differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features


def attention_map(x_BCHW: Tensor) -> Tensor:
    """Mean over channels of the squared features, as a vector of length one: [B, H·W] (section 3.1, F²_sum)."""
    return F.normalize(x_BCHW.pow(2).mean(1).flatten(1))


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over the layers of the mean squared difference of attention maps.

    Equation 2 has the norm of the difference; the authors' code, and all that took over its weight of 1,000, have the
    mean of the squares over batch and positions.  Maps of unlike size are brought to the smaller one by averaging the
    features.  No gradient passes to the teacher.  Raises ValueError for unlike numbers of layers.
    """
    if len(student) != len(teacher):
        raise ValueError(f"{len(student)} layers of the student and {len(teacher)} of the teacher: give as many of each")
    total = 0.0
    for own, other in zip(student, teacher):
        side = min(own.shape[-1], other.shape[-1])
        own, other = F.adaptive_avg_pool2d(own, side), F.adaptive_avg_pool2d(other.detach(), side)
        total = total + (attention_map(own) - attention_map(other)).pow(2).mean()
    return total


class AttentionTransfer(nn.Module):
    """:func:`attention_loss` after every stage; of networks with unlike numbers of them, the deepest ones in pairs."""

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return attention_loss(*deepest(student.stages, teacher.stages))


def deepest(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """As many of either as there are of both, counted from the deepest."""
    depth = min(len(student), len(teacher))
    return student[-depth:], teacher[-depth:]
