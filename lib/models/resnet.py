"""Residual networks for small images (He et al. 2016, arXiv 1512.03385): basic blocks, no max pooling.

    model = ResNet(resnet18())
    logits = model(images)                             # [B, C, H, W] -> [B, classes]

Every ReLU is a module of its own, so that each can be replaced.  ``resnet18()`` on 32×32 images has the 557,056
ReLUs that the work on private inference counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.system.checks import require


@dataclass(frozen=True)
class ResNetConfig:
    """Geometry of a :class:`ResNet`.  Raises ValueError, saying what to do, where it makes no sense.

    ``widths``   channels of each stage; from the second stage on, each halves the image
    ``blocks``   residual blocks of each stage, two convolutions each
    ``stride``   of the first convolution: 2 halves the image at once, for a quarter of the compute
    ``channels`` of the images
    ``inner``    channels between the two convolutions of each block, first to last; None: as many as the block gives out
    """

    widths: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (1, 1, 1)
    stride: int = 1
    channels: int = 3
    classes: int = 10
    inner: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(
            self.widths and len(self.widths) == len(self.blocks),
            f"widths {self.widths} and blocks {self.blocks} must name the same stages, one at least",
        )
        require(
            min(self.widths) >= 1 and min(self.blocks) >= 1,
            f"widths {self.widths} and blocks {self.blocks}: each stage needs at least 1 channel and 1 block",
        )
        require(
            self.inner is None or len(self.inner) == sum(self.blocks) and min(self.inner) >= 1,
            f"inner is {self.inner}: give each of the {sum(self.blocks)} blocks at least 1 channel, or None",
        )
        for name in ("stride", "channels", "classes"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")

    @property
    def inner_by_block(self) -> tuple[int, ...]:
        """Channels within each block, first to last."""
        if self.inner is not None:
            return self.inner
        return tuple(width for width, count in zip(self.widths, self.blocks) for _ in range(count))


def resnet18(**changes) -> ResNetConfig:
    """ResNet-18 as it is used for CIFAR: 11.2 million parameters, a first convolution of 3×3."""
    return replace(ResNetConfig(widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)), **changes)


class BasicBlock(nn.Module):
    """relu(x' + BN(conv(relu(BN(conv(x)))))), x' = x or, where the shape changes, a 1×1 convolution and BN of it."""

    def __init__(self, channels: int, out: int, stride: int, inner: int | None = None):
        super().__init__()
        inner = inner or out
        self.conv1, self.bn1, self.relu1 = conv3(channels, inner, stride), nn.BatchNorm2d(inner), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = conv3(inner, out, 1), nn.BatchNorm2d(out), nn.ReLU()
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """3×3 convolution, BN, ReLU → stages of blocks → mean over positions → linear head."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.conv, self.bn, self.relu = conv3(config.channels, width, config.stride), nn.BatchNorm2d(width), nn.ReLU()
        blocks, inner = [], iter(config.inner_by_block)
        for stage, (out, count) in enumerate(zip(config.widths, config.blocks)):
            for number in range(count):
                blocks.append(BasicBlock(width, out, 2 if stage and not number else 1, next(inner)))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], in at least fp32."""
        logits = self.head(self.blocks(self.relu(self.bn(self.conv(images)))).mean((2, 3)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def conv3(channels: int, out: int, stride: int) -> nn.Conv2d:
    """He initialisation (arXiv 1502.01852); no bias, since BN subtracts the mean and adds its own shift."""
    conv = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
