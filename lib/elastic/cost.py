"""What a sub-network of a given size costs, counted from its size alone.

Counting is what a sampler that keeps to a budget and a search over thousands of sizes need; that the counts
are those of the network that :func:`lib.elastic.extract.extract` cuts out is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.elastic.config import LayerSize, Size
from lib.models.conv_stem import stem_cost
from lib.models.vit import ViTConfig


@dataclass(frozen=True)
class Cost:
    """``parameters`` in all, ``active_parameters`` that one token passes through, ``flops`` of one image's
    forward pass (a multiply-add counts 2; matrix products and attention only, as :func:`lib.measure.cost.flops`)."""

    parameters: int
    active_parameters: int
    flops: int


def cost(size: Size, config: ViTConfig) -> Cost:
    """Cost of the sub-network of this size in a network with this configuration.

    Raises ValueError for a network with a hidden layer in its head, which no elastic network here has.
    """
    if config.head_hidden is not None:
        raise ValueError("a head with a hidden layer is not counted: leave head_hidden at None")
    D, N = config.width, config.tokens
    embedding, embedding_flops = embedding_cost(config)
    rest = embedding + D * (config.positions or config.patches) + 2 * D + config.classes * (D + 1)
    rest += D * (config.pool == "class")
    head_dim = config.head_dim or D // config.heads_by_layer[0]
    layers = [layer_cost(layer, D, head_dim, N) for layer in size.layers]
    return Cost(
        rest + sum(c.parameters for c in layers),
        rest + sum(c.active_parameters for c in layers),
        embedding_flops + 2 * D * config.classes + sum(c.flops for c in layers),
    )


def embedding_cost(config: ViTConfig) -> tuple[int, int]:
    """Parameters and FLOPs of what makes tokens of an image: one linear map, or a stem."""
    if config.stem != "patch":
        return stem_cost(config.channels, config.width, config.patch, config.image_size, config.stem == "conv")
    pixels = config.channels * config.patch**2
    return config.width * (pixels + 1), 2 * config.patches * pixels * config.width


def layer_cost(layer: LayerSize, D: int, head_dim: int, N: int) -> Cost:
    """Cost of one block of width D on N tokens."""
    inner, hidden = layer.heads * head_dim, layer.hidden
    attention = 3 * inner * (D + 1) + D * (inner + 1)
    flops = 2 * N * 4 * D * inner + 4 * N * N * inner
    ffn = 2 * D * hidden + hidden + D
    if layer.experts is None:
        return Cost(4 * D + attention + ffn, 4 * D + attention + ffn, flops + 4 * N * D * hidden)
    router = layer.experts * D
    return Cost(
        4 * D + attention + router + layer.experts * ffn,
        4 * D + attention + router + layer.k * ffn,
        flops + 2 * N * D * layer.experts + layer.k * 4 * N * D * hidden,
    )
