"""Guessing a sub-network's latency from a table of what its parts take, as Once-for-All does.

Its paper: arXiv 1908.09791, sec. 3.4.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.elastic.config import Size, Space
from lib.elastic.extract import extract
from lib.elastic.predict import Quality, quality
from lib.elastic.subnet import LayerUnits, Subnet
from lib.elastic.supernet import ElasticViT
from lib.measure.cost import take_turns
from lib.models.vit import ViT
from lib.system.checks import require
from lib.system.precision import autocast

Ffn = tuple[int, int | None, int | None]


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Milliseconds of the parts of extracted networks, for one batch of ``batch`` images.

    ``attention``  of the attention half of a block, by its heads
    ``ffn``        of the other half, by (hidden, experts, k)
    ``rest``       of a network without blocks: embedding, positions, norm, pooling, head
    """

    attention: dict[int, float]
    ffn: dict[Ffn, float]
    rest: float
    batch: int

    @classmethod
    def measure(cls, model: ElasticViT, space: Space, images: Tensor, *, rounds: int = 7, precision: str = "fp32") -> LatencyTable:
        """Time every part that sizes of this space are made of, on normalised ``images`` [B, C, H, W].

        Parts are cut out of the middle layer and get what that layer gets in the whole network, so that its router
        spreads tokens as it does there.  All parts take turns, so that a slow moment of the machine falls on all of
        them alike, and the fastest of ``rounds`` counts: what makes one call slower than another is not the part.
        """
        layer = model.config.depth // 2
        experts, k = space.experts or (None,), space.k or (None,)
        shapes = [shape for shape in itertools.product(space.hidden, experts, k) if shape[1] is None or shape[2] <= shape[1]]

        def part(heads: int, hidden: int, experts: int | None, k: int | None) -> torch.nn.Module:
            units = LayerUnits(layer, range(heads), range(hidden), None if experts is None else range(experts), k)
            return extract(model, Subnet((units,))).blocks[0]

        x_BND = input_of(model, layer, images)
        calls: dict = {"rest": forward(extract(model, Subnet(())), images, precision)}
        for heads in space.heads:
            calls[heads] = half(attention_half, part(heads, *shapes[0]), x_BND, precision)
        for shape in shapes:
            calls[shape] = half(ffn_half, part(space.heads[0], *shape), x_BND, precision)
        seconds = take_turns(calls, rounds, images.device)
        found = {name: 1000 * min(times) for name, times in seconds.items()}
        return cls({heads: found[heads] for heads in space.heads}, {shape: found[shape] for shape in shapes}, found["rest"], len(images))

    def predict(self, size: Size) -> float:
        """Milliseconds of the whole sub-network: the sum of its parts.  Raises ValueError for one not in the table."""
        total = self.rest
        for layer in size.layers:
            shape = (layer.hidden, layer.experts, layer.k)
            require(
                layer.heads in self.attention and shape in self.ffn,
                f"the table has no layer of {layer}: measure it for the space that this size is from",
            )
            total += self.attention[layer.heads] + self.ffn[shape]
        return total

    def validate(self, sizes: Sequence[Size], milliseconds: Sequence[float]) -> tuple[float, Quality]:
        """Median relative error, and agreement (RMSE in ms), of predictions with whole networks' measured latencies."""
        predicted = np.array([self.predict(size) for size in sizes])
        measured = np.asarray(milliseconds, dtype=float)
        return float(np.median(np.abs(predicted / measured - 1))), quality(predicted, measured)


def network_latencies(networks: Sequence[ViT], images: Tensor, *, rounds: int = 7, precision: str = "fp32") -> list[float]:
    """Milliseconds that whole networks take for ``images``: the fastest of ``rounds`` in which they take turns."""
    calls = {place: forward(network, images, precision) for place, network in enumerate(networks)}
    seconds = take_turns(calls, rounds, images.device)
    return [1000 * min(seconds[place]) for place in calls]


def forward(network: torch.nn.Module, images: Tensor, precision: str) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode(), autocast(images.device, precision):
            network(images)

    return call


def half(which: Callable, block: torch.nn.Module, x_BND: Tensor, precision: str) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode(), autocast(x_BND.device, precision):
            which(block, x_BND)

    return call


def attention_half(block: torch.nn.Module, x_BND: Tensor) -> Tensor:
    return x_BND + block.attention(block.norm1(x_BND))


def ffn_half(block: torch.nn.Module, x_BND: Tensor) -> Tensor:
    found = block.ffn(block.norm2(x_BND))
    return x_BND + (found[0] if isinstance(found, tuple) else found)  # a mixture also says where tokens went


@torch.no_grad()
def input_of(model: ElasticViT, layer: int, images: Tensor) -> Tensor:
    """What a layer of the whole network gets: [B, N, D].  The sub-network switched on stays on."""
    found, before, mode = [], model.subnet, model.training
    hook = model.blocks[layer].register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    try:
        model.eval().use(model.whole)(images)
    finally:
        hook.remove()
        model.train(mode)
        model.select(before)
    return found[0]
