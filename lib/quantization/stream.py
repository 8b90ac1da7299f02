"""Rotate a whole decoder: what runs from block to block, and what the FFNs hold (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456).

rotate_stream(model, seed=0)          # the same function, with outliers spread over all features
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.models.anatomy import anatomy, untie
from lib.quantization.rotation import fold_gain, rotation


@torch.no_grad()
def rotate_stream(model: nn.Module, seed: int, inner: bool = True) -> nn.Module:
    """Rotate the residual stream of a pre-norm decoder with RMS norms, in place, and return it (section 4, stage 1a).

    Embedding, attention's output and the FFN's write Qᵀ x, all that reads it multiplies by Q; gains of norms go into what reads
    them first, so the head gets a weight of its own.  inner: also rotate what ``down`` reads, while the network runs, by a
    product with a matrix (stage 1b); QuaRot's kernel does that in n log n steps.  Heads of values and keys stay as they are:
    QuaRot rotates them for its cache (stages 1c and 1d), which is not rounded here.
    The model keeps its mode; sizes must be 2^k · 12^m.
    """
    untie(model)
    parts = anatomy(model)
    Q_DD = rotation(parts.embed.embedding_dim, seed)
    for norm, readers in reading(parts):
        fold_gain(norm, readers)
        for layer in readers:
            layer.weight.copy_(layer.weight.double() @ Q_DD)
    parts.embed.weight.copy_(parts.embed.weight.double() @ Q_DD)
    for number, block in enumerate(parts.blocks):
        for layer in (block.out, block.down):
            layer.weight.copy_(Q_DD.T @ layer.weight.double())
            if layer.bias is not None:
                layer.bias.copy_(Q_DD.T @ layer.bias.double())
        if inner:
            rotate_inputs(block.down, rotation(block.down.in_features, seed + 1 + number))
    return model


def reading(parts):
    """Yield (norm, the linear layers that read it)."""
    for block in parts.blocks:
        yield block.norm1, block.reads1
        yield block.norm2, block.reads2
    yield parts.norm, (parts.head,)


@torch.no_grad()
def rotate_inputs(layer: nn.Linear, Q_II: Tensor) -> None:
    """Let ``layer`` read x Q, with a weight W Q that undoes it."""
    layer.weight.copy_(layer.weight.double() @ Q_II)
    Q_II = Q_II.to(layer.weight)
    layer.register_forward_pre_hook(lambda _, args: (args[0] @ Q_II.to(args[0].device),))
