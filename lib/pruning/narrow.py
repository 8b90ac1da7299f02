"""Channels of a network without branches, and the same network with fewer of them.

    smaller = narrowed(model, (16, 64, 64), batches)      # a WhitenedCNN of these widths

What a convolution writes is read by the next layer alone, so every channel may go, not only those inside a block
(:mod:`lib.pruning.inner`).  What is left is a network of the same class with a config of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lib.models.whitened_cnn import WhitenedCNN
from lib.pruning.inner import Inner, importance
from lib.system.checks import require


def chain(model: WhitenedCNN) -> dict[str, Inner]:
    """Return, for each convolution behind the stem, which layer writes its channels, which norm is along, which reads them."""
    convolutions = [f"groups.{group}.{name}" for group in range(len(model.groups)) for name in ("conv1", "conv2")]
    return {conv: Inner(conv, reader, conv.replace("conv", "norm")) for conv, reader in zip(convolutions, [*convolutions[1:], "head"])}


def narrowed(model: WhitenedCNN, widths: tuple[int, ...], batches: Iterable[tuple[Tensor, Tensor]]) -> WhitenedCNN:
    """Return a copy with only so many channels per group: those whose loss would change the loss most.

    batches: inputs and targets from which the change is estimated, see :func:`lib.pruning.inner.importance`.
    Raises ValueError for widths that are no smaller network's, and as :func:`thinned`.
    """
    own = model.config.widths
    require(
        len(widths) == len(own) and all(1 <= new <= old for new, old in zip(widths, own)),
        f"widths is {widths}: give one from 1 to that of the network, {own}, for each group",
    )
    scores = importance(model, batches, inner=chain(model))
    kept = {
        conv: score.argsort(descending=True, stable=True)[: widths[place // 2]].sort().values
        for place, (conv, score) in enumerate(scores.items())
    }
    return thinned(model, kept)


@torch.no_grad()
def thinned(model: WhitenedCNN, kept: Mapping[str, Tensor]) -> WhitenedCNN:
    """Return a copy with these channels of each convolution; it computes what ``model`` does with the others at zero.

    kept: places [channels], ascending, of every convolution behind the stem, as many for both of a group.
    Raises ValueError for masks, codebooks or factors on the way.
    """
    require(
        not model.config.ranks and not any(hasattr(module, "parametrizations") for module in model.modules()),
        "the network has masks, codebooks or factors: remove channels before these are made",
    )
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for conv, layers in chain(model).items():
        places = kept[conv]
        for name in [name for name in state if name.rpartition(".")[0] in (layers.writes, layers.along) and state[name].ndim]:
            state[name] = state[name].index_select(0, places)
        reads = f"{layers.reads}.weight"
        state[reads] = state[reads].index_select(1, places)
    widths = tuple(len(kept[f"groups.{group}.conv2"]) for group in range(len(model.groups)))
    # Logits are divided by the root of the head's width, which has become smaller.
    state["head.weight"] *= math.sqrt(widths[-1] / model.config.widths[-1])
    smaller = WhitenedCNN(replace(model.config, widths=widths)).to(model.head.weight.device)
    smaller.load_state_dict(state)
    return smaller.train(model.training)
