"""Round-to-nearest on an even grid of 2^b values, one grid for each group of neighbours in a row.

    grid = grid_of(weight_OI, bits=4, group=64)
    rounded_OI = grid.round(weight_OI)               # fp32, but no more than 16 values in each group

The baseline that GPTQ, AWQ and SmoothQuant begin from, and the grids that they use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class Grid:
    """value = scale · (code - zero), codes 0 … 2^bits - 1; scale and zero [O, G], one for each group of a row."""

    bits: int
    group: int
    scale_OG: Tensor
    zero_OG: Tensor

    def codes(self, weight_OI: Tensor) -> Tensor:
        """The nearest codes, whole numbers in the dtype of the weight, [O, I]."""
        scale_OI, zero_OI = self._spread(weight_OI)
        return (weight_OI / scale_OI + zero_OI).round().clamp(0, 2**self.bits - 1)

    def values(self, codes_OI: Tensor) -> Tensor:
        """What the codes stand for, [O, I]."""
        scale_OI, zero_OI = self._spread(codes_OI)
        return (codes_OI - zero_OI) * scale_OI

    def round(self, weight_OI: Tensor) -> Tensor:
        return self.values(self.codes(weight_OI))

    def _spread(self, like_OI: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero of each weight, [O, I]."""
        return tuple(each.repeat_interleave(self.group, 1)[:, : like_OI.shape[1]] for each in (self.scale_OG, self.zero_OG))


@torch.no_grad()
def grid_of(weight_OI: Tensor, bits: int, group: int | None = None, symmetric: bool = False) -> Grid:
    """The grids that span the weights of each group.

    group: neighbours along the inputs that share a scale, None for a whole row; a last group may be shorter.
    symmetric: zero lies in the middle, code 2^(bits-1), and the largest |w| on the highest code; else the grid spans from
    the smallest weight to the largest, and has a code that is exactly 0, so that pruned weights stay pruned.
    Raises ValueError for bits outside 2 to 16, or a group below 1.
    """
    require(2 <= bits <= 16, f"bits is {bits}: it must be from 2 to 16")
    inputs = weight_OI.shape[1]
    group = inputs if group is None else min(group, inputs)
    require(group >= 1, f"group is {group}: it must be at least 1")
    padded_OI = torch.nn.functional.pad(weight_OI.detach(), (0, -inputs % group))  # zeros change no grid
    padded = padded_OI.unflatten(1, (-1, group))
    low_OG, high_OG = padded.amin(2).clamp(max=0.0), padded.amax(2).clamp(min=0.0)
    if symmetric:
        scale_OG = torch.maximum(-low_OG, high_OG) / (2 ** (bits - 1) - 1)
    else:
        scale_OG = (high_OG - low_OG) / (2**bits - 1)
    scale_OG = torch.where(scale_OG == 0, 1.0, scale_OG)  # a group of zeros
    zero_OG = torch.full_like(scale_OG, 2 ** (bits - 1)) if symmetric else (-low_OG / scale_OG).round()
    return Grid(bits, group, scale_OG, zero_OG)


def nearest(weight_OI: Tensor, bits: int, group: int | None = None, symmetric: bool = False) -> Tensor:
    """The weight rounded to the nearest values of its own grids, [O, I]."""
    return grid_of(weight_OI, bits, group, symmetric).round(weight_OI.detach())


def bits_per_weight(inputs: int, bits: int, group: int | None = None, symmetric: bool = False) -> float:
    """Bits that a row of ``inputs`` weights takes in a file, per weight: codes, a scale of 16 bits per group, and its zero."""
    groups = -(-inputs // (inputs if group is None else group))
    return bits + groups * (16 + (0 if symmetric else bits)) / inputs
