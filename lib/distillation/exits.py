"""A residual network with classifiers at several depths (Zhang, Bao and Ma, TPAMI 2022, "Self-distillation", sec. 3).

    net = ExitNet(ExitConfig(ResNetConfig(), places=(1, 2)))
    logits_KBC, features_KBD = net.all_exits(images)    # shallowest first, the network's own classifier last

Behind a block stand an attention module, an alignment net and a linear classifier.  The alignment net brings features to
the size of the last ones, so that they can be compared.  All of it may be thrown away after training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.resnet import ResNet, ResNetConfig
from lib.system.checks import require


@dataclass(frozen=True)
class ExitConfig:
    """Geometry of an :class:`ExitNet`.  Raises ValueError, saying what to do, where it makes no sense.

    ``places``     blocks of the backbone, counted from 1, behind which a shallow classifier stands; empty: the plain network
    ``attention``  whether shallow features pass an attention module first
    """

    backbone: ResNetConfig
    places: tuple[int, ...] = ()
    attention: bool = True

    def __post_init__(self) -> None:
        blocks = sum(self.backbone.blocks)
        require(
            list(self.places) == sorted(set(self.places)) and all(1 <= place < blocks for place in self.places),
            f"places is {self.places}: give different blocks in rising order, from 1 to {blocks - 1}; "
            f"behind block {blocks} the network's own classifier stands",
        )

    @property
    def stages(self) -> tuple[int, ...]:
        """Stage of each block, from 0."""
        return tuple(stage for stage, count in enumerate(self.backbone.blocks) for _ in range(count))


class SeparableConv(nn.Module):
    """Twice (3×3 convolution of each channel by itself → 1×1 convolution → BN → ReLU); the first has the stride."""

    def __init__(self, channels: int, out: int, stride: int = 2):
        super().__init__()
        self.layers = nn.Sequential(*depthwise(channels, channels, stride), *depthwise(channels, out, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.layers(x_BCHW)


class DepthwiseConv(nn.Conv2d):
    """A 3×3 convolution of each channel by itself.

    On a CPU it computes in fp32: oneDNN (seen with torch 2.14) has no fast bf16 code for the backward pass of one with a
    stride, which takes 12 times as long as in fp32, and half of a training step of :class:`ExitNet`.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.device.type != "cpu" or x_BCHW.dtype != torch.bfloat16:
            return super().forward(x_BCHW)
        with torch.autocast("cpu", enabled=False):
            return self._conv_forward(x_BCHW.float(), self.weight.float(), None).to(x_BCHW.dtype)


def depthwise(channels: int, out: int, stride: int) -> list[nn.Module]:
    return [
        DepthwiseConv(channels, stride),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


class SpatialAttention(nn.Module):
    """x ⊙ sigmoid(upsampled(g(x))), g a separable convolution at half the size with BN: what a shallow classifier looks at.

    BN and ReLU follow the separable convolution once more, as in the authors' code, so that no weight falls below one half.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.look = nn.Sequential(SeparableConv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.weights(x_BCHW)

    def weights(self, x_BCHW: Tensor) -> Tensor:
        return F.interpolate(self.look(x_BCHW), size=x_BCHW.shape[-2:], mode="bilinear", align_corners=False).sigmoid()


class Exit(nn.Module):
    """Attention → alignment → mean over positions → linear classifier; gives (logits [B, classes], features [B, D])."""

    def __init__(self, widths: tuple[int, ...], classes: int, attention: bool):
        super().__init__()
        self.attention = SpatialAttention(widths[0]) if attention else nn.Identity()
        # One separable convolution per stage still to come; behind a block of the last stage one that keeps the size.
        steps = list(zip(widths, widths[1:])) or [(widths[0], widths[0])]
        self.align = nn.Sequential(*(SeparableConv(a, b, stride=2 if len(widths) > 1 else 1) for a, b in steps))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        feature_BD = self.align(self.attention(x_BCHW)).mean((2, 3))
        return self.head(feature_BD), feature_BD


class ExitNet(nn.Module):
    """A :class:`~lib.models.resnet.ResNet` with shallow classifiers.  ``forward`` is that of the plain network."""

    def __init__(self, config: ExitConfig):
        super().__init__()
        self.config = config
        self.backbone = ResNet(config.backbone)
        widths = config.backbone.widths
        self.exits = nn.ModuleList(
            Exit(widths[config.stages[place - 1] :], config.backbone.classes, config.attention) for place in config.places
        )

    @property
    def count(self) -> int:
        """Classifiers, the network's own among them."""
        return len(self.exits) + 1

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of the deepest classifier for images [B, C, H, W]."""
        return self.backbone(images)

    def walk(self, images: Tensor):
        """Each classifier's (logits, features) in turn, the shallowest first; nothing is computed before it is asked for."""
        net, places = self.backbone, dict(zip(self.config.places, self.exits))
        x_BCHW = net.relu(net.bn(net.conv(images)))
        for place, block in enumerate(net.blocks, 1):
            x_BCHW = block(x_BCHW)
            if place in places:
                yield at_least_fp32(*places[place](x_BCHW))
        feature_BD = x_BCHW.mean((2, 3))
        yield at_least_fp32(net.head(feature_BD), feature_BD)

    def all_exits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [K, B, classes] and features [K, B, D] of all K classifiers, shallowest first."""
        logits, features = zip(*self.walk(images))
        return torch.stack(logits), torch.stack(features)


def at_least_fp32(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)
