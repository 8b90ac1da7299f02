"""FitNets: hints for thin deep nets (Romero et al. 2015, arXiv 1412.6550).

A middle layer of the student learns to predict, through a trained regressor, a middle layer of the teacher.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.taps import Features


def hint_loss(guided: Tensor, hint: Tensor) -> Tensor:
    """Mean squared difference of the student's regressed features and the teacher's [B, C, H, W].

    Equation 3 has half the squared norm; like the codes that later work compares with, this is the mean over
    elements, and the weight, 100 as a rule, belongs to it.  No gradient passes to the teacher.
    Raises ValueError for shapes that differ.
    """
    if guided.shape != hint.shape:
        raise ValueError(
            f"the student's features {tuple(guided.shape)} must have the hint's shape {tuple(hint.shape)}: "
            "pass them through a Hint, which learns to translate them"
        )
    return F.mse_loss(guided, hint.detach())


class Hint(nn.Module):
    """The regressor and its loss at one stage: 1×1 convolution → BN → ReLU onto the teacher's channels.

    ``stage`` counts from 0.  Images of unlike size are brought to the smaller one by averaging.  The paper trains the
    student up to the hint first and distils afterwards; this is the joint training of later comparisons (RepDistiller,
    mdistiller), whose regressor also ends in BN and ReLU.
    """

    def __init__(self, student_channels: int, teacher_channels: int, stage: int):
        super().__init__()
        self.stage = stage
        self.regressor = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False), nn.BatchNorm2d(teacher_channels), nn.ReLU()
        )

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        guided, hint = self.regressor(student.stages[self.stage]), teacher.stages[self.stage]
        side = min(guided.shape[-1], hint.shape[-1])
        return hint_loss(F.adaptive_avg_pool2d(guided, side), F.adaptive_avg_pool2d(hint, side))
