"""Compute of a GPT, counted from its geometry: 2 FLOPs per multiplication in matrix products, nothing else.

Equal to what ``torch.utils.flop_counter`` finds for a dense model; that counter does not know grouped products, which
mixtures are made of.
"""

from __future__ import annotations

from lib.models.gpt import GPTConfig


def forward_flops(config: GPTConfig, tokens: int, context: int | None = None) -> int:
    """FLOPs of a forward pass over ``tokens`` tokens in texts of ``context`` (None: the longest).

    Attention counts all pairs of a text, masked or not, as is usual (Kaplan et al., arXiv 2001.08361, count none of it;
    Chowdhery et al., arXiv 2204.02311, appendix B, all).
    """
    width, inner = config.width, config.heads * config.head_dim
    attention = width * (2 * inner + 2 * config.keys * config.head_dim)
    pairs = 2 * (context or config.context) * inner
    matrices = 3 if config.ffn == "swiglu" else 2
    ffn = matrices * width * config.hidden
    if config.moe:
        ffn = ffn * config.moe.chosen // config.moe.split + width * config.moe.routed
    return 2 * tokens * (config.depth * (attention + pairs + ffn) + width * config.vocabulary)


def training_flops(config: GPTConfig, tokens: int, context: int | None = None) -> int:
    """Forward and backward, which costs twice as much."""
    return 3 * forward_flops(config, tokens, context)
