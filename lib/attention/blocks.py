"""Block-sparse patterns: which blocks of the attention matrix are computed at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of ``size`` × ``size`` pairs; ``kept`` bool [rows, columns of blocks] (on the CPU) says which are computed.

    The mask M of the paper's Section 3.3, with B_r = B_c.  The last block of a row or column may be cut short.
    """

    kept: Tensor
    size: int

    @property
    def share(self) -> float:
        """Fraction s of the blocks that is computed."""
        return self.kept.double().mean().item()

    def check(self, N: int, L: int) -> None:
        """Raises ValueError where these blocks do not cover N queries and L keys exactly."""
        needed = (-(-N // self.size), -(-L // self.size))
        require(
            tuple(self.kept.shape) == needed, f"{N} queries and {L} keys are {needed} blocks of {self.size}, not {tuple(self.kept.shape)}"
        )

    def lacks(self, rows: range, columns: range) -> bool:
        """Whether no pair of these is in a kept block."""
        return not self.of(rows, columns).any()

    def holds(self, rows: range, columns: range) -> bool:
        """Whether every pair of these is in a kept block."""
        return bool(self.of(rows, columns).all())

    def of(self, rows: range, columns: range) -> Tensor:
        """The part of ``kept`` that these rows and columns touch."""
        i, j = (slice(part.start // self.size, (part.stop - 1) // self.size + 1) for part in (rows, columns))
        return self.kept[i, j]

    def dense(self, rows: range, columns: range) -> Tensor:
        """Bool [1, 1, rows, columns]: pairs that are in kept blocks."""
        i, j = (torch.arange(part.start, part.stop) // self.size for part in (rows, columns))
        return self.kept[i[:, None], j][None, None]


def butterfly(blocks: int, size: int) -> Blocks:
    """Blocks (i, j) with i = j or with numbers that differ in one binary digit: 1 + log2(n) of n in a row.

    The fixed butterfly pattern that the paper uses in its experiments, from Pixelated Butterfly (arXiv 2112.00029,
    section 3.2), which sets the diagonal and the diagonals at distances 1, 2, 4, … within blocks of 2, 4, 8, ….
    Deviation: that paper adds a low-rank term, in attention a few global rows and columns; there are none here.
    """
    i = torch.arange(blocks)
    differ = i[:, None] ^ i
    return Blocks((differ & (differ - 1)) == 0, size)  # no digit or one: zero, or a power of two


def window(blocks: int, size: int, reach: int) -> Blocks:
    """Each block sees itself and ``reach`` blocks on both sides: sliding-window attention (Longformer, arXiv 2004.05150) by blocks."""
    i = torch.arange(blocks)
    return Blocks((i[:, None] - i).abs() <= reach, size)


def scattered(blocks: int, size: int, share: float, seed: int = 0) -> Blocks:
    """Of each row's blocks a random ``share``, rounded, but at least the diagonal's."""
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(blocks, blocks, generator=generator).fill_diagonal_(2.0)
    chosen = chance.topk(max(1, round(share * blocks)), dim=1).indices
    return Blocks(torch.zeros(blocks, blocks, dtype=torch.bool).scatter_(1, chosen, True), size)
