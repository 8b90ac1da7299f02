"""A small convolutional network that reaches 90 % on CIFAR-10 in minutes: a whitened stem and three groups.

    model = WhitenedCNN(WhitenedCNNConfig(widths=(64, 256, 256)))
    whiten(model, normalise(images.train.images[:5000], images))
    logits = model(inputs)                             # [B, C, H, W] -> [B, classes]

The design is Jordan's (arXiv 2404.00498): its first convolution is computed from the data and not trained, its poolings come
before norms and activations, where they save most, and its logits are small at the start.  His stem has a bias that is
trained for three epochs; without it no gradient is needed where images are large, a seventh of a step.  His head is trained
by SGD at a rate of its own; divided by the root of its width instead of the width, and begun at zero, it learns as fast by
AdamW at everybody's rate (validation accuracy after two epochs 86.3 and 86.2 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.system.checks import require

#: Added to the patches' eigenvalues, so that directions without variance are not blown up.
EPSILON = 5e-4


@dataclass(frozen=True)
class WhitenedCNNConfig:
    """Geometry of a :class:`WhitenedCNN`.  Raises ValueError, saying what to do, where it makes no sense.

    ``widths``   output channels of each group; each group halves the image
    ``patch``    side of the patches that the stem whitens
    ``channels`` of the images
    ``ranks``    of the convolutions in their order, each then in two factors (:class:`Factors`); (): all are whole
    """

    widths: tuple[int, ...] = (64, 256, 256)
    patch: int = 2
    channels: int = 3
    classes: int = 10
    ranks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.widths and min(self.widths) >= 1, f"widths is {self.widths}: each group needs at least 1 channel")
        for name in ("patch", "channels", "classes"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: it must be at least 1")
        require(
            not self.ranks or len(self.ranks) == 2 * len(self.widths) and min(self.ranks) >= 1,
            f"ranks is {self.ranks}: give a number from 1 for each of the {2 * len(self.widths)} convolutions, or none",
        )

    @property
    def stem_width(self) -> int:
        """Channels of the stem: each whitened direction of a patch, and its negative."""
        return 2 * self.channels * self.patch**2


class Group(nn.Module):
    """Convolution, 2×2 max pooling, norm, GELU; convolution, norm, GELU."""

    def __init__(self, channels: int, width: int, ranks: tuple[int, ...] = ()):
        super().__init__()
        self.conv1, self.norm1 = convolution(channels, width, *ranks[:1]), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = convolution(width, width, *ranks[1:]), nn.BatchNorm2d(width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.gelu(self.norm1(F.max_pool2d(self.conv1(x_BCHW), 2)))
        return F.gelu(self.norm2(self.conv2(x_BCHW)))


class WhitenedCNN(nn.Module):
    """Whitened patches → GELU → groups → maximum over positions → linear head, its logits divided by the root of its width."""

    def __init__(self, config: WhitenedCNNConfig):
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(config.channels, config.stem_width, config.patch, bias=False).requires_grad_(False)
        widths = (config.stem_width, *config.widths)
        self.groups = nn.Sequential(
            *(Group(*pair, config.ranks[2 * place : 2 * place + 2]) for place, pair in enumerate(zip(widths, widths[1:])))
        )
        self.head = nn.Linear(widths[-1], config.classes, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], in at least fp32."""
        x_BCHW = self.groups(F.gelu(self.stem(images)))
        logits = self.head(x_BCHW.amax((2, 3))) / math.sqrt(self.head.in_features)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Factors(nn.Sequential):
    """A 3×3 convolution as two: a column of 3×1 into ``rank`` channels, then a row of 1×3 (arXiv 1405.3866, scheme 2)."""

    def __init__(self, channels: int, width: int, rank: int):
        super().__init__(
            nn.Conv2d(channels, rank, (3, 1), padding=(1, 0), bias=False), nn.Conv2d(rank, width, (1, 3), padding=(0, 1), bias=False)
        )


def convolution(channels: int, width: int, rank: int = 0) -> nn.Module:
    """3×3 that keeps the image's size and hands its input on at first (Dirac), as far as there are channels for it.

    With a ``rank`` in two factors, which begin at random.
    """
    if rank:
        return Factors(channels, width, rank)
    conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:channels])
    return conv


@torch.no_grad()
def whiten(model: WhitenedCNN, inputs: Tensor) -> None:
    """Set the stem so that its outputs on patches of ``inputs`` [N, C, H, W] are uncorrelated and of variance 1.

    Its filters are the eigenvectors of the patches' second moments, each over the root of its eigenvalue, and their
    negatives.
    """
    p = model.config.patch
    patches_PK = F.unfold(inputs, p).transpose(1, 2).flatten(0, 1)
    values_K, vectors_KK = torch.linalg.eigh(patches_PK.T @ patches_PK / len(patches_PK))
    filters = (vectors_KK / (values_K + EPSILON).sqrt()).T.reshape(-1, *model.stem.weight.shape[1:])
    model.stem.weight.copy_(torch.cat([filters, -filters]))
