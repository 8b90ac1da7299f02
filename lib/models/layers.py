"""The parts of a pre-norm vision transformer (Dosovitskiy et al., arXiv 2010.11929)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.softmax_attention import softmax_attention
from lib.moe.ffn import Mlp


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, softmax(q kᵀ / √d_head) v.

    ``head_dim`` None: the heads share the width.  A network that has lost heads keeps theirs.
    """

    def __init__(self, width: int, heads: int, head_dim: int | None = None):
        super().__init__()
        if head_dim is None and width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads: choose a multiple")
        self.heads, self.head_dim = heads, head_dim or width // heads
        self.qkv = nn.Linear(width, 3 * heads * self.head_dim)
        self.out = nn.Linear(heads * self.head_dim, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return attend(x_BND, self.qkv.weight, self.qkv.bias, self.out.weight, self.out.bias, self.heads)


def attend(x_BND: Tensor, qkv_weight: Tensor, qkv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, heads: int) -> Tensor:
    """Attention with the given weights: ``qkv_weight`` [3·H·d, D] for H heads of d features, ``out_weight`` [D, H·d]."""
    B, N, _ = x_BND.shape
    q, k, v = F.linear(x_BND, qkv_weight, qkv_bias).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    y_BHNd = softmax_attention(q, k, v)
    return F.linear(y_BHNd.transpose(1, 2).flatten(2), out_weight, out_bias)


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, leave a residual branch out for a random image."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, branch_BND: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return branch_BND
        keep = 1 - self.probability
        kept_B11 = torch.empty(len(branch_BND), 1, 1, device=branch_BND.device).bernoulli_(keep)
        return branch_BND * (kept_B11 / keep).to(branch_BND.dtype)


class Block(nn.Module):
    """x + Attention(norm(x)), then x + FFN(norm(x)).

    ``ffn`` is an :class:`Mlp`, or a mixture of experts, which also says where it sent each token:
    returns (x [B, N, D], Routing or None).
    """

    def __init__(self, width: int, attention: nn.Module, ffn: nn.Module, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = attention
        self.norm2 = nn.LayerNorm(width)
        self.ffn = ffn
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BND: Tensor, id_BN: Tensor | None = None) -> tuple[Tensor, object | None]:
        x_BND = x_BND + self.drop_path(self.attention(self.norm1(x_BND)))
        h_BND = self.norm2(x_BND)
        y_BND, routing = (self.ffn(h_BND), None) if isinstance(self.ffn, Mlp) else self.ffn(h_BND, id_BN)
        return x_BND + self.drop_path(y_BND), routing
