"""Plain convolutional networks: stages of conv-BN-ReLU, pooling in between.

    model = BaselineCNN(preset("large"))
    logits = model(images)                             # [B, C, H, W] -> [B, classes]

Widths are given layer by layer, so that a pruned network is a :class:`CNNConfig` like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.system.checks import one_of, require


@dataclass(frozen=True)
class CNNConfig:
    """Geometry of a :class:`BaselineCNN`.  Raises ValueError, saying what to do, where it makes no sense.

    ``stages``   output channels of each layer, stage by stage: ``((16,), (32, 32))`` is one layer, a pooling
                 that halves the image, then two layers
    ``channels`` of the images
    """

    stages: tuple[tuple[int, ...], ...]
    channels: int = 3
    classes: int = 10

    def __post_init__(self) -> None:
        require(self.stages and all(self.stages), f"stages is {self.stages}: give each stage at least one layer")
        require(min(self.widths) >= 1, f"stages is {self.stages}: each layer needs at least 1 channel")
        for name in ("channels", "classes"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of each layer, first to last."""
        return tuple(width for stage in self.stages for width in stage)

    def with_widths(self, widths: tuple[int, ...]) -> CNNConfig:
        """The same stages with other output channels, one number per layer."""
        require(len(widths) == len(self.widths), f"{len(widths)} widths for {len(self.widths)} layers: give one per layer")
        rest = iter(widths)
        return replace(self, stages=tuple(tuple(next(rest) for _ in stage) for stage in self.stages))


class BaselineCNN(nn.Module):
    """(3×3 conv → BN → ReLU) per layer, 2×2 max pooling between stages, mean over positions → linear head.

    Takes images of any size from 2^(stages - 1) pixels a side.
    """

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.config = config
        layers, width = [], config.channels
        for number, stage in enumerate(config.stages):
            if number:
                layers.append(nn.MaxPool2d(2))
            for out in stage:
                layers.append(conv_bn_relu(width, out))
                width = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], in at least fp32."""
        logits = self.head(self.features(images).mean((2, 3)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def conv_bn_relu(channels: int, out: int) -> nn.Sequential:
    """He initialisation (arXiv 1502.01852); no bias, since BN subtracts the mean and adds its own shift."""
    conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


PRESETS = {
    # 37, 100 and 295 thousand parameters for CIFAR; most of the work is done on small images, where it is cheap.
    "small": CNNConfig(stages=((8,), (16,), (24,), (48, 48))),
    "medium": CNNConfig(stages=((16,), (24,), (40,), (80, 80))),
    "large": CNNConfig(stages=((16,), (32,), (64,), (144, 144))),
}


def preset(name: str, **changes) -> CNNConfig:
    """A size by name, ``"small"``, ``"medium"`` or ``"large"``, with some fields changed.

    Raises ValueError for another name.
    """
    one_of("preset", name, PRESETS)
    return replace(PRESETS[name], **changes)
