"""What a convolutional network computes on its way: the outputs of its stages, pooled features, logits.

    seen = features(model, images)
    seen.logits, seen.pooled, seen.stages[-1]

A network is run part by part, so nothing is attached to it and it stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.cnn import BaselineCNN
from lib.models.resnet import ResNet


@dataclass(frozen=True)
class Features:
    """Of one batch: ``logits`` [B, classes] in at least fp32, ``stages`` [B, C, H, W] after each stage's last ReLU,
    the shallowest first, and ``pooled`` [B, C], the mean over positions that the linear head reads.
    """

    logits: Tensor
    stages: tuple[Tensor, ...]
    pooled: Tensor

    def float(self) -> Features:
        """All of it in fp32: losses take differences of like numbers, for which bfloat16 is too coarse."""
        return Features(self.logits.float(), tuple(stage.float() for stage in self.stages), self.pooled.float())


def features(model: nn.Module, images: Tensor) -> Features:
    """Everything that ``model(images)`` computes between stages; ``.logits`` equals ``model(images)``.

    images [B, C, H, W].  Raises TypeError for a network whose stages are not known here.
    """
    x, found = images, []
    for stage in stages(model):
        for layer in stage:
            x = layer(x)
        found.append(x)
    pooled = x.mean((2, 3))
    logits = model.head(pooled)
    return Features(logits.to(torch.promote_types(logits.dtype, torch.float32)), tuple(found), pooled)


def stages(model: nn.Module) -> list[list[nn.Module]]:
    """The layers of each stage, in order; the first includes the stem, a later one begins where images are halved.

    Raises TypeError for a network other than :class:`ResNet` and :class:`BaselineCNN`.
    """
    if isinstance(model, ResNet):
        rest = iter(model.blocks)
        found = [[next(rest) for _ in range(count)] for count in model.config.blocks]
        found[0] = [model.conv, model.bn, model.relu, *found[0]]
        return found
    if isinstance(model, BaselineCNN):
        found = [[]]
        for layer in model.features:
            if isinstance(layer, nn.MaxPool2d):
                found.append([])
            found[-1].append(layer)
        return found
    raise TypeError(f"the stages of a {type(model).__name__} are not known: take a ResNet or a BaselineCNN")


def widths(model: nn.Module) -> list[int]:
    """Channels after each stage.  Raises TypeError as :func:`stages` does."""
    if isinstance(model, ResNet):
        return list(model.config.widths)
    stages(model)
    return [stage[-1] for stage in model.config.stages]
