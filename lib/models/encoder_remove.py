"""Take heads, FFN neurons and whole FFNs that masks switch off out of an encoder for good.

What is left is an ordinary :class:`~lib.models.encoder.Encoder` with a smaller configuration, that computes what the masked
one did: smaller matrices, less time.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.models.encoder import Classifier, Encoder, FeedForward, MaskedLM, Masks
from lib.system.checks import require


@torch.no_grad()
def remove(encoder: Encoder, head_masks: Masks = None, neuron_masks: Masks = None, layer_masks: Masks = None) -> Encoder:
    """A smaller encoder that computes what ``encoder`` computes under these masks.

    Masks as :meth:`Encoder.forward` takes them, one row each: [1, n] or [n].  Where a mask is 0 the head, neuron or FFN
    goes; other values, such as a learnt coefficient of 0.7, are multiplied into the weights that follow.  A whole FFN that is
    off loses its output bias too.  Raises ValueError for masks that differ between inputs, or do not fit the encoder.
    """
    config = encoder.config
    blocks = list(encoder.blocks)
    heads = [
        flat("head_masks", mask, block.attention.heads, encoder) for mask, block in zip(encoder.by_layer("head_masks", head_masks), blocks)
    ]
    neurons = [
        flat("neuron_masks", mask, block.ffn.up.out_features, encoder)
        for mask, block in zip(encoder.by_layer("neuron_masks", neuron_masks), blocks)
    ]
    layers = [flat("layer_masks", mask, 1, encoder) for mask in encoder.by_layer("layer_masks", layer_masks)]
    neurons = [mask * layer for mask, layer in zip(neurons, layers)]

    small = Encoder(
        replace(
            config,
            head_dim=config.head_features,
            heads=tuple(int((m != 0).sum()) for m in heads),
            hidden=tuple(int((m != 0).sum()) for m in neurons),
        )
    ).to(encoder.positions.device)
    for name in ("embed", "norm"):
        getattr(small, name).load_state_dict(getattr(encoder, name).state_dict())
    small.positions.copy_(encoder.positions)
    for old, new, head, neuron, layer in zip(blocks, small.blocks, heads, neurons, layers):
        for name in ("norm1", "norm2"):
            getattr(new, name).load_state_dict(getattr(old, name).state_dict())
        feature = head.repeat_interleave(config.head_features)
        kept = feature.nonzero()[:, 0]
        for name in ("q", "k", "v"):
            put(getattr(new.attention, name), getattr(old.attention, name), rows=kept)
        put(new.attention.out, old.attention.out, columns=kept, factors=feature)
        thin(new.ffn, old.ffn, neuron, layer)
    return small.train(encoder.training)


def thin(new: FeedForward, old: FeedForward, neuron: Tensor, layer: Tensor) -> None:
    """Copy the neurons that are left; a factor of the whole FFN also goes into its output bias."""
    kept = neuron.nonzero()[:, 0]
    put(new.up, old.up, rows=kept)
    put(new.down, old.down, columns=kept, factors=neuron)
    new.down.bias.mul_(layer)


def put(new: nn.Linear, old: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None, factors: Tensor | None = None) -> None:
    """Copy some rows (and their biases) or columns, each column times its factor, into a smaller layer."""
    weight, bias = old.weight, old.bias
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    if columns is not None:
        weight = (weight * factors)[:, columns]
    new.weight.copy_(weight)
    new.bias.copy_(bias)


def flat(name: str, mask: Tensor | None, size: int, encoder: Encoder) -> Tensor:
    """A mask as float [n]; ones where there is none."""
    like = encoder.positions
    if mask is None:
        return like.new_ones(size)
    mask = mask.detach().to(like)
    require(
        mask.ndim == 1 or len(mask) == 1,
        f"{name} of shape {tuple(mask.shape)} differ between inputs: only what is off for every input can be removed; give one row",
    )
    mask = mask.flatten()
    require(len(mask) == size, f"{name} has {len(mask)} entries where the layer has {size}")
    return mask


def smaller(model: Classifier | MaskedLM, **masks: Masks) -> Classifier | MaskedLM:
    """A copy of the model whose encoder is what :func:`remove` leaves; the head is as it was."""
    small = remove(model.encoder, **masks)
    encoder, model.encoder = model.encoder, small
    try:
        return copy.deepcopy(model)
    finally:
        model.encoder = encoder
