"""Performer's attention, FAVOR+: softmax kernels by positive orthogonal random features (Choromanski et al., arXiv 2009.14794)."""

from __future__ import annotations

import torch
from torch import Tensor


def features(count: int, d: int, seed: int = 0) -> Tensor:
    """Directions ω [count, d]: each N(0, I), those within a block of d orthogonal to each other (section 3.2, "ORF").

    A block is a random rotation, its rows stretched to the lengths of independent Gaussian vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = [rotation(d, generator) for _ in range(-(-count // d))]
    lengths = torch.randn(count, d, generator=generator).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:count] * lengths


def rotation(d: int, generator: torch.Generator) -> Tensor:
    """A uniformly random orthogonal matrix [d, d].

    The QR decomposition of a Gaussian matrix is one only with the signs that make R's diagonal positive; with
    LAPACK's signs the features would be biased.
    """
    q, r = torch.linalg.qr(torch.randn(d, d, generator=generator))
    return q * r.diagonal().sign()


def performer(q: Tensor, k: Tensor, v: Tensor, omega: Tensor) -> Tensor:
    """D⁻¹ φ(q) (φ(k)ᵀ v) with D = φ(q) φ(k)ᵀ 1, for all keys (not causal): time and memory linear in the length.

    φ(x) = e^(-|x|²/2) [e^(ω_1 x), …, e^(ω_m x)] / √m of x = q / d^¼ and k / d^¼ estimates e^(q·k / √d) without bias
    (lemma 1).  Constant factors, 1/√m and the largest exponents, cancel in the quotient; the exponents are
    subtracted so that nothing overflows, as in the authors' code, whose additive ε is left out.
    """
    scale = q.shape[-1] ** -0.25
    phi_q, phi_k = exponents(q * scale, omega), exponents(k * scale, omega)
    phi_q = torch.exp(phi_q - phi_q.amax(-1, keepdim=True))
    phi_k = torch.exp(phi_k - phi_k.amax((-2, -1), keepdim=True))  # one constant for all keys, or they would be weighted
    return phi_q @ (phi_k.transpose(-2, -1) @ v) / (phi_q @ phi_k.sum(-2).unsqueeze(-1))


def exponents(x: Tensor, omega: Tensor) -> Tensor:
    """ω x - |x|²/2 of rows x [..., N, d]: [..., N, m]."""
    return x @ omega.T.to(x.dtype) - x.square().sum(-1, keepdim=True) / 2
