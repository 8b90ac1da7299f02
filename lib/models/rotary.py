"""Rotary position embedding: positions turn queries and keys, so that their product depends on the distance."""

from __future__ import annotations

import torch
from torch import Tensor


def angles(positions_N: Tensor, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin [N, d/2] of θ_i = position · base^(-2i/d)   (RoPE, arXiv 2104.09864, eq. 15)."""
    dtype = torch.float32 if positions_N.device.type == "mps" else torch.float64  # MPS has no float64
    frequency = base ** (-torch.arange(0, head_dim, 2, device=positions_N.device, dtype=dtype) / head_dim)
    angle_Nd = positions_N.to(dtype)[:, None] * frequency
    return angle_Nd.cos(), angle_Nd.sin()


def rotate(x_BHNd: Tensor, cos_Nd: Tensor, sin_Nd: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+d/2}) by its angle: Llama's pairing, from which the paper's differs in order only."""
    first, second = x_BHNd.chunk(2, dim=-1)
    cos, sin = cos_Nd.to(x_BHNd.dtype), sin_Nd.to(x_BHNd.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
