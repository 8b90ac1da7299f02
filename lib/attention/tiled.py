"""FlashAttention as plain PyTorch: tiles forward, recomputation backward, never the whole matrix.

The algorithm, not its speed: here every tile is a handful of operations whose results go to main memory, while the
real kernel is one operation that keeps a tile on the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.attention.masks import Mask, share_heads
from lib.attention.online import Running
from lib.system.checks import require


def tiled(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask(), tile: int = 128) -> Tensor:
    """softmax(q kᵀ / √d) v, exactly, in tiles of ``tile`` × ``tile`` scores; gradients too.

    Beyond inputs and output, N numbers per head are kept for the backward pass.  Tiles in which nobody sees anybody
    are skipped; with block-sparse masks the tiles are the blocks.  The last tiles may be smaller.  bf16 and fp16 are
    computed in fp32 within a tile, as the hardware's matrix units do.

    Deviations from the paper: no dropout; the outer loop of the forward pass is over queries, as in FlashAttention-2
    (arXiv 2307.08691), so that an output is written once; one number per row, log Σ e^s, is kept instead of m and l.
    """
    k, v = share_heads(q, k, v)
    mask.check(q, k)
    require(tile >= 1, f"tile is {tile}: it must be at least 1")
    return Tiled.apply(q, k, v, mask, mask.blocks.size if mask.blocks else tile)


class Tiled(torch.autograd.Function):
    """Forward: Algorithm 1 with its loops exchanged.  Backward: Algorithm 4."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Mask, tile: int) -> Tensor:
        N, L = q.shape[2], k.shape[2]
        scale = 1 / math.sqrt(q.shape[-1])
        o, log_sum = torch.empty_like(q), q.new_empty(*q.shape[:3], 1, dtype=accumulator(q))
        for rows in tiles(N, tile):
            q_i = take(q, rows) * scale
            running = Running.start(q_i)
            for columns in tiles(L, tile):
                if not mask.skips(rows, columns, N, L):
                    s = masked(q_i @ take(k, columns).transpose(-2, -1), mask.tile(rows, columns, N, L, q.device))
                    running = running.update(s, take(v, columns))
            o[:, :, rows.start : rows.stop] = running.output
            log_sum[:, :, rows.start : rows.stop] = running.log_sum
        ctx.save_for_backward(q, k, v, o, log_sum)
        ctx.mask, ctx.tile = mask, tile
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx, do: Tensor):
        """dv = pᵀ do,  ds = p ∘ (do vᵀ - rowsum(do ∘ o)),  dq = ds k,  dk = dsᵀ q, each summed over tiles of p made again."""
        q, k, v, o, log_sum = ctx.saved_tensors
        mask, tile, N, L = ctx.mask, ctx.tile, q.shape[2], k.shape[2]
        scale, exact = 1 / math.sqrt(q.shape[-1]), accumulator(q)
        dq = torch.zeros_like(q, dtype=exact)
        dk, dv = torch.empty_like(k), torch.empty_like(v)
        # Σ_j p_ij dp_ij over a whole row, had without the row: Σ_d do_id o_id.
        delta = (do.to(exact) * o.to(exact)).sum(-1, keepdim=True)
        for columns in tiles(L, tile):
            k_j, v_j = take(k, columns), take(v, columns)
            dk_j, dv_j = torch.zeros_like(k_j), torch.zeros_like(v_j)
            for rows in tiles(N, tile):
                if mask.skips(rows, columns, N, L):
                    continue
                q_i, do_i = take(q, rows) * scale, take(do, rows)
                s = masked(q_i @ k_j.transpose(-2, -1), mask.tile(rows, columns, N, L, q.device))
                p = torch.exp(s - take(log_sum, rows))
                dv_j += p.transpose(-2, -1) @ do_i
                ds = p * (do_i @ v_j.transpose(-2, -1) - take(delta, rows))
                dq[:, :, rows.start : rows.stop] += ds @ k_j * scale
                dk_j += ds.transpose(-2, -1) @ q_i  # q_i is scaled already
            dk[:, :, columns.start : columns.stop], dv[:, :, columns.start : columns.stop] = dk_j, dv_j
        return dq.to(q.dtype), dk, dv, None, None


def tiles(length: int, size: int) -> Iterator[range]:
    for start in range(0, length, size):
        yield range(start, min(start + size, length))


def take(x: Tensor, part: range) -> Tensor:
    """These rows [B, H, r, d], loaded: in the type that is computed in."""
    return x[:, :, part.start : part.stop].to(accumulator(x))


def accumulator(x: Tensor) -> torch.dtype:
    """fp32 for bf16 and fp16, else the tensor's own."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def masked(s: Tensor, seen: Tensor | None) -> Tensor:
    return s if seen is None else s.masked_fill(~seen, -torch.inf)
