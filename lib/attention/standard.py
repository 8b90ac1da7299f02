"""Standard attention: the matrix is written out, three times over."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.attention.masks import Mask, share_heads


def standard(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask()) -> Tensor:
    """softmax(q kᵀ / √d) v by its definition (Algorithm 0): scores S and probabilities P are [B, H, N, L] tensors.

    Both are stored in the inputs' type, and P is kept for the backward pass.
    """
    k, v = share_heads(q, k, v)
    mask.check(q, k)
    s_BHNL = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    seen = mask.dense(q.shape[2], k.shape[2], q.device)
    if seen is None:
        return s_BHNL.softmax(-1) @ v
    p_BHNL = s_BHNL.masked_fill(~seen, -torch.inf).softmax(-1)
    blind = ~seen.any(-1, keepdim=True)  # rows that see nothing: 0/0
    return (p_BHNL.masked_fill(blind, 0.0) if blind.any() else p_BHNL) @ v


def without_maximum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula taken literally, e^s / Σ e^s: what :func:`standard` would be if softmax did not subtract the row's maximum."""
    weight_BHNL = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).exp()
    return (weight_BHNL / weight_BHNL.sum(-1, keepdim=True)) @ v
