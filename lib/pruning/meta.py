"""MetaPruning (Liu et al. 2019, arXiv 1903.10258): a network that makes the weights of pruned networks, to tell which
are good.

    net = PruningNet(CNNConfig(...))
    net.scales = (30, 12, 7)                # one scale per convolution; forward() is that network now
    widths = net.widths((30, 12, 7))        # its output channels

Trained with scales drawn anew at each step, it tells how good any widths would be without training them; see
:mod:`lib.pruning.meta_search`.

Deviations: the networks here are chains of convolutions; the head is not generated, its first columns are used; the
generated weights are cropped before they are multiplied out, not after, which gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.cnn import CNNConfig
from lib.system.checks import require

#: 31 shares of a layer's channels, 0.10, 0.13 … 1.00 (section 4.1).
SCALES = tuple(round(0.1 + 0.03 * number, 2) for number in range(31))

#: Units of the generators' hidden layer.
HIDDEN = 32

Genes = tuple[int, ...]


class Generator(nn.Module):
    """(in scale, out scale) ↦ the weight [O, I, 3, 3] of a convolution: Linear(2, 32), ReLU, Linear(32, O · I · 9)."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.shape = (out, channels, 3, 3)
        self.first = nn.Linear(2, HIDDEN)
        self.second = nn.Linear(HIDDEN, math.prod(self.shape))

    def forward(self, scales: Tensor, channels: int, out: int) -> Tensor:
        """The weight's first ``out`` filters and first ``channels`` channels.  scales: [2]."""
        hidden = F.relu(self.first(scales))
        weight = self.second.weight.view(*self.shape, HIDDEN)[:out, :channels]
        return weight @ hidden + self.second.bias.view(self.shape)[:out, :channels]


class PruningNet(nn.Module):
    """(generated 3×3 conv → the scale's own BN → ReLU) per layer, 2×2 max pooling between stages, mean → linear head.

    config: of the network that is pruned.  ``scales`` holds, per convolution, a place in :data:`SCALES`.
    """

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.config = config
        self.scales: Genes = (len(SCALES) - 1,) * len(config.widths)
        inputs = (config.channels, *config.widths[:-1])
        self.generators = nn.ModuleList(Generator(*pair) for pair in zip(inputs, config.widths))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(scaled(width, gene)) for gene in range(len(SCALES))) for width in config.widths
        )
        self.head = nn.Linear(config.widths[-1], config.classes)

    def widths(self, genes: Genes) -> tuple[int, ...]:
        """Output channels of each convolution at these scales.  Raises ValueError unless each has one."""
        require(
            len(genes) == len(self.config.widths) and all(0 <= gene < len(SCALES) for gene in genes),
            f"{genes} must be {len(self.config.widths)} places among the {len(SCALES)} scales",
        )
        return tuple(scaled(width, gene) for width, gene in zip(self.config.widths, genes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W] by the network of the present scales."""
        x, channels, before, number = images, self.config.channels, 1.0, 0
        for stage in self.config.stages:
            if number:
                x = F.max_pool2d(x, 2)
            for width in stage:
                gene = self.scales[number]
                out = scaled(width, gene)
                both = x.new_tensor([before, SCALES[gene]], dtype=torch.float32)
                weight = self.generators[number](both, channels, out)
                x = F.relu(self.norms[number][gene](F.conv2d(x, weight, padding=1)))
                channels, before, number = out, SCALES[gene], number + 1
        return F.linear(x.mean((2, 3)), self.head.weight[:, :channels], self.head.bias).float()

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Take the present scales' BN statistics anew from these inputs: most combinations were never trained together."""
        chosen = [norms[gene] for norms, gene in zip(self.norms, self.scales)]
        momenta, mode = [norm.momentum for norm in chosen], self.training
        self.train()
        for norm in chosen:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        for inputs in batches:
            self(inputs)
        for norm, momentum in zip(chosen, momenta):
            norm.momentum = momentum
        self.train(mode)


def scaled(width: int, gene: int) -> int:
    """Channels of a layer of ``width`` at a scale; at least 1."""
    return max(1, round(width * SCALES[gene]))


def stochastic_loss(model: PruningNet, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss for :func:`lib.training.loop.fit`: cross-entropy of the network at scales drawn uniformly for this step (sec. 3.1)."""
    model.scales = tuple(torch.randint(len(SCALES), (len(model.scales),)).tolist())
    logits = model(inputs)
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    return F.cross_entropy(logits, targets), {"train_accuracy": (logits.detach().argmax(1) == labels).float().mean()}


def macs(config: CNNConfig, widths: tuple[int, ...], side: int) -> int:
    """Multiply-adds of the convolutions and the head for one image of ``side`` × ``side``: what the search has a cap for."""
    total, channels, rest = 0, config.channels, iter(widths)
    for number, stage in enumerate(config.stages):
        side = side // 2 if number else side
        for _ in stage:
            out = next(rest)
            total += 9 * channels * out * side * side
            channels = out
    return total + channels * config.classes
