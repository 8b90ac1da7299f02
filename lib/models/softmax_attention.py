"""softmax(q kᵀ / √d) v by the engine that trains fastest here.

PyTorch's fused attention is the faster one everywhere but in one place: on a CPU in bfloat16, where its backward pass
takes several times as long as in fp32 (PyTorch 2.14 on a processor with AMX: 171 ms against 18 for 256 images of 64 tokens,
more than half of a transformer's step; on one with AVX-512 bf16 both passes take three times as long, which the attention
chapter measures).  There two matrix products with a softmax in between win, though they write the
matrix of scores to memory.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Return [B, H, N, d] for q [B, H, N, d] and k, v [B, H, L, d].

    mask: bool, true where a query sees a key, of a shape that broadcasts to [B, H, N, L].  causal: query i sees keys up
    to i; not together with a mask.
    """
    if products_are_faster(q):
        return by_products(q, k, v, mask, causal)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def products_are_faster(q: Tensor) -> bool:
    """Whether a backward pass in bfloat16 on a CPU will follow."""
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return False
    return q.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


def by_products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """The same by two matrix products and a softmax."""
    scores_BHNL = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores_BHNL.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores_BHNL = scores_BHNL.masked_fill(~mask, -math.inf)
    return scores_BHNL.softmax(-1).to(v.dtype) @ v
