"""VGG with batch norm for small images (Simonyan and Zisserman 2015, arXiv 1409.1556, with one linear layer at the end).

    model = VGG(vgg16())                               # 14,715,584 weights in convolutions and the head
    logits = model(images)                             # [B, C, H, W] -> [B, classes]

The network on which pruning to 1,000× is usually shown.  A chain without shortcuts, so a layer that loses all its
weights cuts it in two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.system.checks import require

#: Channels of VGG16's thirteen convolutions, and how many stand between two poolings.
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
STAGES = (2, 2, 3, 3, 3)


@dataclass(frozen=True)
class VGGConfig:
    """Geometry of a :class:`VGG`.  Raises ValueError, saying what to do, where it makes no sense.

    ``widths``   output channels, convolution by convolution, so that a pruned network is a config like any other
    ``stages``   convolutions of each stage; a 2×2 max pooling follows each, as long as the image is larger than 1×1
    ``channels`` and ``side`` of the images
    ``bias``     of the convolutions.  Batch norm makes it useless; the networks we compare with have it all the same
    """

    widths: tuple[int, ...] = WIDTHS
    stages: tuple[int, ...] = STAGES
    channels: int = 3
    classes: int = 10
    side: int = 32
    bias: bool = True

    def __post_init__(self) -> None:
        require(
            self.stages and min(self.stages) >= 1 and sum(self.stages) == len(self.widths),
            f"stages {self.stages} must be numbers from 1 whose sum is the number of widths, {len(self.widths)}",
        )
        require(min(self.widths) >= 1, f"widths {self.widths}: each convolution needs at least 1 channel")
        for name in ("channels", "classes", "side"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")

    def with_widths(self, widths: tuple[int, ...]) -> VGGConfig:
        """The same network with other widths."""
        return replace(self, widths=tuple(widths))


def vgg16(width: float = 1.0, **changes) -> VGGConfig:
    """VGG16, each layer ``width`` times as wide; ``changes`` to the config's other fields."""
    require(width > 0, f"width is {width}: it must be above 0, 1 for VGG16 itself")
    return VGGConfig(widths=tuple(max(1, round(width * channels)) for channels in WIDTHS), **changes)


class VGG(nn.Module):
    """Stages of (3×3 convolution, BN, ReLU) with max pooling after each → mean over positions → linear head.

    ``features`` is one flat ``nn.Sequential``; its convolutions are called ``features.0``, ``features.3`` …
    """

    def __init__(self, config: VGGConfig):
        super().__init__()
        self.config = config
        parts, channels, side, widths = [], config.channels, config.side, iter(config.widths)
        for depth in config.stages:
            for _ in range(depth):
                width = next(widths)
                parts += [convolution(channels, width, config.bias), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            if side > 1:
                parts.append(nn.MaxPool2d(2))
                side //= 2
        self.features = nn.Sequential(*parts)
        self.head = nn.Linear(channels, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], in at least fp32."""
        logits = self.head(self.features(images).mean((2, 3)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def convolution(channels: int, width: int, bias: bool) -> nn.Conv2d:
    """3×3 that keeps the image's size; He initialisation (arXiv 1502.01852)."""
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if bias:
        nn.init.zeros_(conv.bias)
    return conv
