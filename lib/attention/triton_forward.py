"""The tiled forward pass as one GPU kernel, in Triton: scores and probabilities of a tile never leave the chip.

Import this file only where Triton is installed; :func:`lib.attention.engines.hindrance` says whether it can run.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from lib.system.checks import require

#: Queries and keys of a tile.  With d = 64 in bf16 these take about 50 KB of the chip's memory.
ROWS, COLUMNS = 128, 64


@triton.jit
def kernel(q, k, v, o, N, L, scale, D: tl.constexpr, CAUSAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One program: ROWS queries of one head against all keys.  Tensors are [heads, length, D], contiguous.

    Exponents are of 2, which is what the hardware has: ``scale`` holds a factor log2(e).
    """
    head = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    d = tl.arange(0, D)
    q_i = tl.load(q + (head * N + i[:, None]) * D + d[None, :], mask=i[:, None] < N, other=0.0)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    l = tl.zeros([ROWS], tl.float32)  # noqa: E741 - the paper's letter
    a = tl.zeros([ROWS, D], tl.float32)
    stop = L
    if CAUSAL:  # keys beyond what the last of these queries sees are never loaded
        stop = tl.minimum(L, (tl.program_id(0) + 1) * ROWS + L - N)
    for start in range(0, stop, COLUMNS):
        at = start + j
        k_j = tl.load(k + (head * L + at[None, :]) * D + d[:, None], mask=at[None, :] < L, other=0.0)
        v_j = tl.load(v + (head * L + at[:, None]) * D + d[None, :], mask=at[:, None] < L, other=0.0)
        seen = at[None, :] < L
        if CAUSAL:
            seen = seen & (at[None, :] <= i[:, None] + L - N)
        s = tl.where(seen, tl.dot(q_i, k_j, input_precision="ieee") * scale, float("-inf"))
        # Every query sees key 0, so that from the first tile on the maximum is finite.
        m_new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - m_new[:, None])
        rescale = tl.exp2(m - m_new)
        l = l * rescale + tl.sum(p, 1)  # noqa: E741
        a = a * rescale[:, None] + tl.dot(p.to(v_j.dtype), v_j, input_precision="ieee")
        m = m_new
    tl.store(o + (head * N + i[:, None]) * D + d[None, :], (a / l[:, None]).to(o.dtype.element_ty), mask=i[:, None] < N)


def forward(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """softmax(q kᵀ / √d) v for q [B, H, N, d] and k, v [B, H, L, d]; no gradients.

    Raises ValueError for a head dimension that is not a power of two from 16 to 128, or for tensors that require gradients.
    """
    B, H, N, d = q.shape
    require(d in (16, 32, 64, 128), f"the Triton kernel takes head dimensions of 16, 32, 64 or 128, not {d}: use the engine 'sdpa'")
    require(
        not (torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))),
        "the Triton kernel has no backward pass: call it under torch.no_grad(), or use the engine 'sdpa'",
    )
    q, k, v = (x.contiguous() for x in (q, k, v))
    o = torch.empty_like(q)
    grid = (triton.cdiv(N, ROWS), B * H)
    kernel[grid](q, k, v, o, N, k.shape[2], math.log2(math.e) / math.sqrt(d), D=d, CAUSAL=causal, ROWS=ROWS, COLUMNS=COLUMNS)
    return o
