"""Real numbers as 64-bit integers, modulo 2⁶⁴: what secret sharing computes with.

A number x stands as round(x · 2^bits).  Sums keep their bits; a product of two such numbers has twice as many, which is why
multiplication is followed by truncation (:meth:`lib.privacy.sharing.Parties.truncate`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.system.checks import require

#: Bits of the ring: int64 tensors wrap around, which is arithmetic modulo 2⁶⁴.
RING = 64

#: Bits after the point.  More are more precise, and leave less room before truncation fails: see the chapter.
FRACTION = 14


def encode(x: Tensor, bits: int = FRACTION) -> Tensor:
    """int64 of a float tensor.  Raises ValueError for what is not finite, or needs more than 62 bits."""
    scaled = x.detach().to("cpu", torch.float64) * 2.0**bits
    require(
        bool(torch.isfinite(scaled).all()) and (scaled.numel() == 0 or float(scaled.abs().max()) < 2.0**62),
        f"a value is not finite or too large for {bits} bits after the point: scale it down, or use fewer bits",
    )
    return scaled.round().to(torch.int64)


def decode(x: Tensor, bits: int = FRACTION) -> Tensor:
    """float64 of an int64 tensor."""
    return x.to(torch.float64) / 2.0**bits


def uniform(shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64, each of the 2⁶⁴ values equally likely.  From a generator that is fast and predictable: for simulation only."""
    return torch.empty(shape, dtype=torch.int64).random_(-(2**63), None, generator=generator)
