"""Fully connected networks; LeNet-300-100 is the one on which lottery tickets were first found (arXiv 1803.03635)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.system.checks import require


@dataclass(frozen=True)
class MLPConfig:
    """Geometry of an :class:`MLP`.  Raises ValueError where it makes no sense.

    ``inputs``  numbers per example: channels · height · width of an image
    ``hidden``  width of each hidden layer; the default is LeNet-300-100's, which on MNIST has 266,200 weights
    """

    inputs: int = 784
    hidden: tuple[int, ...] = (300, 100)
    classes: int = 10

    def __post_init__(self) -> None:
        require(min(self.inputs, self.classes) >= 1, f"inputs {self.inputs} and classes {self.classes} must be at least 1")
        require(all(width >= 1 for width in self.hidden), f"hidden is {self.hidden}: each layer needs at least 1 unit")

    def with_widths(self, widths: tuple[int, ...]) -> MLPConfig:
        """The same network with other hidden widths."""
        return replace(self, hidden=tuple(widths))


class MLP(nn.Module):
    """Linear layers with a ReLU between each two; the last one is ``head``."""

    def __init__(self, config: MLPConfig):
        super().__init__()
        self.config = config
        parts, width = [], config.inputs
        for units in config.hidden:
            parts += [linear(width, units), nn.ReLU()]
            width = units
        self.layers = nn.Sequential(*parts)
        self.head = linear(width, config.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [B, classes] of inputs [B, ...], in at least fp32."""
        logits = self.head(self.layers(inputs.flatten(1)))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def linear(inputs: int, units: int) -> nn.Linear:
    """Glorot's normal initialisation, as the paper on tickets has it (its figure 2), and no bias at first."""
    layer = nn.Linear(inputs, units)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
