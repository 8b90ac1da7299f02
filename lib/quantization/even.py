"""Rounding a trained network's weights to even steps, without any training: what int8 and int4 usually mean.

    rounded(model, bits=8)                      # 255 steps from -max to max for each layer
    rounded(model, bits=4, grid=(16, 4))        # 15 steps for each of up to 64 sections of a layer

The steps are symmetric, so zeros stay zeros.  Sections are those of :mod:`lib.quantization.values`, so that a packed file
needs so many bits a weight and no more.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lib.pruning.mask import layers
from lib.quantization.codebook import Grid
from lib.quantization.values import section_of
from lib.system.checks import require


@torch.no_grad()
def rounded(model: nn.Module, bits: int, grid: Grid = (1, 1), ignored: Iterable[str] = ()) -> nn.Module:
    """Round the weights of linear and convolutional layers, in place, to ``bits`` bits.  Returns ``model``.

    Raises ValueError for bits outside 2 to 8.
    """
    for layer in layers(model, ignored).values():
        layer.weight.copy_(to_steps(layer.weight, bits, grid))
    return model


def to_steps(weight: Tensor, bits: int, grid: Grid = (1, 1)) -> Tensor:
    """Return the nearest of the 2^bits - 1 multiples of step(section), which ends at the section's largest magnitude."""
    require(2 <= bits <= 8, f"bits is {bits}: it must be from 2 to 8")
    section = torch.from_numpy(section_of(tuple(weight.shape), grid).copy()).to(weight.device)
    largest = weight.new_zeros(int(section.max()) + 1).scatter_reduce(0, section.flatten(), weight.abs().flatten(), "amax")
    step = torch.where(largest == 0, 1.0, largest / (2 ** (bits - 1) - 1))[section]
    return (weight / step).round() * step
