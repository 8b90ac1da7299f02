"""Who may look at whom: causal order, padding and blocks, for a whole attention matrix or one tile of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.attention.blocks import Blocks
from lib.system.checks import require


@dataclass(frozen=True, eq=False)
class Mask:
    """Which of L keys each of N queries sees.

    ``causal``   the last query sees every key, each one before it one key less: query i keys up to i + L - N
    ``keep_BL``  bool, False for keys that are padding
    ``blocks``   only pairs in its blocks, see :class:`~lib.attention.blocks.Blocks`

    A query that sees no key at all gets an output of zeros, and no gradient comes from it.
    """

    causal: bool = False
    keep_BL: Tensor | None = None
    blocks: Blocks | None = None

    def check(self, q: Tensor, k: Tensor) -> None:
        """Raises ValueError, saying what to do, where this mask does not fit queries [B, H, N, d] and keys [B, H', L, d]."""
        N, L = q.shape[2], k.shape[2]
        require(
            not self.causal or L >= N, f"causal attention of {N} queries to {L} keys: the first queries would see none; give as many keys"
        )
        if self.keep_BL is not None:
            require(
                self.keep_BL.dtype == torch.bool and tuple(self.keep_BL.shape) == (k.shape[0], L),
                f"keep_BL is {self.keep_BL.dtype} {tuple(self.keep_BL.shape)}: give bool {(k.shape[0], L)}, True for keys that count",
            )
        if self.blocks is not None:
            self.blocks.check(N, L)

    def tile(self, rows: range, columns: range, N: int, L: int, device: torch.device) -> Tensor | None:
        """Bool [B or 1, 1, rows, columns], True where a query sees a key; None if there all see all."""
        seen = None
        last = rows.start + L - N  # the last key that the first of these queries sees
        if self.causal and columns.stop - 1 > last:
            i, j = (torch.arange(part.start, part.stop, device=device) for part in (rows, columns))
            seen = (j <= i[:, None] + L - N)[None, None]
        if self.keep_BL is not None:
            keep = self.keep_BL[:, None, None, columns.start : columns.stop].expand(-1, -1, len(rows), -1)
            seen = keep if seen is None else seen & keep
        if self.blocks is not None and not self.blocks.holds(rows, columns):
            inside = self.blocks.dense(rows, columns).to(device)
            seen = inside if seen is None else seen & inside
        return seen

    def skips(self, rows: range, columns: range, N: int, L: int) -> bool:
        """Whether it is known, without a look at the padding, that none of these queries sees any of these keys."""
        if self.causal and columns.start > rows.stop - 1 + L - N:
            return True
        return self.blocks is not None and self.blocks.lacks(rows, columns)

    def dense(self, N: int, L: int, device: torch.device) -> Tensor | None:
        """The whole mask, for algorithms that have the whole matrix."""
        return self.tile(range(N), range(L), N, L, device)


def share_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values with as many heads as the queries have (grouped-query attention, arXiv 2305.13245).

    Each is repeated, which real kernels avoid; autograd adds the copies' gradients up.  Raises ValueError for shapes
    that do not belong together.
    """
    require(
        q.ndim == k.ndim == v.ndim == 4 and k.shape == v.shape and (q.shape[0], q.shape[3]) == (k.shape[0], k.shape[3]),
        f"queries {tuple(q.shape)}, keys {tuple(k.shape)} and values {tuple(v.shape)} do not fit: give [B, H, N, d] and twice [B, H', L, d]",
    )
    require(q.shape[1] % k.shape[1] == 0, f"{q.shape[1]} query heads cannot share {k.shape[1]} key heads: give a divisor")
    times = q.shape[1] // k.shape[1]
    return (k, v) if times == 1 else (k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))
