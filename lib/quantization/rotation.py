"""Rotations: spread outliers over all features (Ashkboos et al. 2024, QuaRot, arXiv 2404.00456; after QuIP, 2307.13304).

    Q_DD = rotation(first.out_features, seed=0)
    rotate(first, second, Q_DD)                # second(first(x)) is what it was; what lies between has no outliers

A feature that is large alone becomes a little in every feature, and grids for all of them get finer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.system.checks import require


def hadamard(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix of ±1 with orthogonal rows, [size, size], for size = 2^k · 12^m: Kronecker products of orders 2 and 12.

    Sylvester's for 2; Paley's for 12, from the squares modulo 11.  Raises ValueError for other sizes.
    """
    left, factors = size, []
    while left and left % 12 == 0:
        left, factors = left // 12, [*factors, paley()]
    require(left >= 1 and left & (left - 1) == 0, f"there is no Hadamard matrix of size {size} here: use 2^k · 12^m")
    factors += [torch.tensor([[1.0, 1.0], [1.0, -1.0]])] * (left.bit_length() - 1)
    found = torch.ones(1, 1, dtype=dtype)
    for factor in factors:
        found = torch.kron(found, factor.to(dtype))
    return found


def paley() -> Tensor:
    """The Hadamard matrix of order 12: I + S, where S is skew and holds χ(i - j), 1 for squares modulo 11, else -1."""
    squares = {i * i % 11 for i in range(1, 11)}
    found = torch.eye(12)
    found[0, 1:], found[1:, 0] = 1.0, -1.0
    for i in range(11):
        for j in range(11):
            if i != j:
                found[1 + i, 1 + j] = 1.0 if (i - j) % 11 in squares else -1.0
    return found


def rotation(size: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """An orthogonal matrix [size, size]: Hadamard's with random signs of its rows, over √size (QuaRot, section 3)."""
    signs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs[:, None] * hadamard(size, dtype) / math.sqrt(size)


@torch.no_grad()
def rotate(first: nn.Linear, second: nn.Linear, rotation_DD: Tensor) -> None:
    """Let ``first`` write Qᵀ h where it wrote h, and ``second`` read that, in place: W₂ Q Qᵀ (W₁ x + b₁).

    Between them there may be an RMS norm whose gain is 1 (:func:`fold_gain`), since ‖Qᵀ h‖ = ‖h‖, but no other
    nonlinearity, and nothing else may read h.
    """
    rotation_DD = rotation_DD.to(first.weight)
    first.weight.copy_(rotation_DD.T @ first.weight)
    if first.bias is not None:
        first.bias.copy_(rotation_DD.T @ first.bias)
    second.weight.copy_(second.weight @ rotation_DD)


@torch.no_grad()
def fold_gain(norm: nn.Module, layers: Sequence[nn.Linear]) -> None:
    """Put the gain of an RMS norm into ``layers``, all that read it, in place; it commutes with rotations then."""
    for layer in layers:
        layer.weight.mul_(norm.weight)
    norm.weight.fill_(1.0)
