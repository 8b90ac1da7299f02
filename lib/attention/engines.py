"""Attention as it is run in earnest: fused kernels behind one signature, chosen by what works here.

attend(q, k, v, Mask(causal=True))                       # the best engine for these tensors
engine("flex", q.device, training=False)(q, k, v, mask)  # this one, or RuntimeError with the reason
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.attention.masks import Mask, share_heads
from lib.attention.standard import standard
from lib.attention.tiled import tiled
from lib.system.checks import one_of, require

Attention = Callable[[Tensor, Tensor, Tensor, Mask], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask()) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``: FlashAttention on CUDA and on the CPU, where the mask allows it.

    Causal order costs no mask; anything else is handed over as a dense one, from which nothing is skipped.
    """
    k, v = share_heads(q, k, v)
    mask.check(q, k)
    N, L = q.shape[2], k.shape[2]
    if mask.causal and mask.keep_BL is None and mask.blocks is None and N == L:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    seen = mask.dense(N, L, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def flex(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask()) -> Tensor:
    """FlexAttention (arXiv 2412.05496): a kernel compiled for the mask, which skips blocks in which nobody sees anybody."""
    k, v = share_heads(q, k, v)
    mask.check(q, k)
    return compiled()(q, k, v, block_mask=flex_mask(mask, q.shape[2], k.shape[2], q.device))


def flex_mask(mask: Mask, N: int, L: int, device: torch.device):
    """FlexAttention's own form of a mask.  ValueError for padding, which would need a kernel per batch."""
    from torch.nn.attention.flex_attention import create_block_mask

    require(mask.keep_BL is None, "FlexAttention is used here without padding masks: use the engine 'sdpa' or 'tiled'")
    if not mask.causal and mask.blocks is None:
        return None
    kept, size = (mask.blocks.kept.to(device), mask.blocks.size) if mask.blocks else (None, 128)

    def seen(b, h, i, j):
        inside = i + L - N >= j if mask.causal else i >= 0
        return inside if kept is None else inside & kept[i // size, j // size]

    return create_block_mask(seen, None, None, N, L, device=device)


@functools.cache
def compiled() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def triton(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask()) -> Tensor:
    """Our own tiled kernel, forward only, see :mod:`lib.attention.triton_forward`."""
    from lib.attention.triton_forward import forward  # imported here: most machines have no Triton

    k, v = share_heads(q, k, v)
    mask.check(q, k)
    require(mask.keep_BL is None and mask.blocks is None, "the Triton kernel knows causal masks only: use the engine 'tiled'")
    return forward(q, k, v, mask.causal)


ENGINES: dict[str, Attention] = {"standard": standard, "tiled": tiled, "sdpa": sdpa, "flex": flex, "triton": triton}


def hindrance(name: str, device: torch.device, training: bool) -> str | None:
    """Why an engine cannot run on ``device``, forward or also backward; None if it can.  ValueError for a name that is none."""
    one_of("engine", name, ENGINES)
    if name == "triton":
        if device.type != "cuda":
            return f"the Triton kernel runs on CUDA devices only, and this is {device.type}"
        if importlib.util.find_spec("triton") is None:
            return "the package triton is not installed"
        return "the Triton kernel has no backward pass" if training else None
    if name == "flex" and device.type == "cpu" and training:
        return "on the CPU, PyTorch's FlexAttention has no backward pass"
    if name == "flex" and device.type not in ("cpu", "cuda"):
        return f"FlexAttention has no fused kernel for {device.type}"
    return None


def engine(name: str, device: torch.device, training: bool = False) -> Attention:
    """The engine of this name.  Raises RuntimeError with the reason where it cannot run."""
    reason = hindrance(name, device, training)
    if reason:
        raise RuntimeError(f"attention engine {name!r} is not available: {reason}; use 'sdpa' or 'tiled'")
    return ENGINES[name]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask = Mask()) -> Tensor:
    """The best engine for these tensors: for blocks the one that skips them, FlexAttention where it works and ours elsewhere; else SDPA."""
    if mask.blocks is None or mask.keep_BL is not None:
        return sdpa(q, k, v, mask)
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return (tiled if hindrance("flex", q.device, training) else flex)(q, k, v, mask)
