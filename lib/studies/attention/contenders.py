"""The attentions that are timed against each other, by name, ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.attention.blocks import Blocks, butterfly, scattered
from lib.attention.engines import ENGINES, compiled, engine, flex_mask, hindrance
from lib.attention.linformer import linformer, projection
from lib.attention.masks import Mask
from lib.attention.performer import features, performer
from lib.attention.tiled import tiled
from lib.system.checks import one_of, require

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

#: Blocks of FlexAttention's masks; its kernels work on no smaller ones.
FLEX_BLOCK = 128


@dataclass(frozen=True)
class Setting:
    """Geometry of what is timed: ``batch`` × ``heads`` matrices, nothing causal, since the approximations are not.

    ``tile``      of our tiled attention, and the blocks of its sparse form
    ``features``  random ones of Performer: d ln d, as its theorem 4 asks for up to a constant
    ``rank``      of Linformer's projections at most: an eighth of the length or this, as in the FlashAttention paper (E.6)
    """

    heads: int = 2
    head_dim: int = 64
    batch: int = 1
    precision: str = "fp32"
    tile: int = 128
    features: int = 267
    rank: int = 256

    def __post_init__(self) -> None:
        one_of("precision", self.precision, TYPES)

    def tensors(self, length: int, device: torch.device, seed: int, count: int = 3) -> list[Tensor]:
        """Queries, keys, values and further such tensors [batch, heads, length, head_dim], standard normal."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.batch, self.heads, length, self.head_dim)
        return [torch.randn(shape, generator=generator).to(device, TYPES[self.precision]) for _ in range(count)]

    def blocks(self, length: int, share: float | None = None, size: int | None = None) -> Blocks:
        """The butterfly pattern, or a random one of this share."""
        size = size or self.tile
        count = -(-length // size)
        return butterfly(count, size) if share is None else scattered(count, size, share)


def contenders(
    names: Iterable[str], setting: Setting, length: int, device: torch.device, training: bool
) -> tuple[dict[str, Attention], dict[str, str]]:
    """Those of these names that can run on ``device``, and for the others why not.

    Names: the engines of :mod:`lib.attention.engines`; "tile 32", which is tiled attention with other tiles;
    "block-sparse" and "share 0.25", which are tiled attention with some of the blocks; "flex, block-sparse"; "linformer";
    "performer".
    """
    calls: dict[str, Attention] = {}
    absent: dict[str, str] = {}
    for name in names:
        family = name.partition(",")[0]
        reason = hindrance(family, device, training) if family in ENGINES else None
        if reason:
            absent[name] = reason
        else:
            calls[name] = contender(name, setting, length, device, training)
    if any(name.startswith("flex") for name in calls):
        torch.compiler.reset()  # after eight masks torch would stop compiling, and compute the whole matrix
    return calls, absent


def contender(name: str, setting: Setting, length: int, device: torch.device, training: bool) -> Attention:
    if name == "tiled" or name.startswith("tile "):
        tile = setting.tile if name == "tiled" else int(name.removeprefix("tile "))
        return lambda q, k, v: tiled(q, k, v, tile=tile)
    if name == "block-sparse" or name.startswith("share "):
        share = float(name.removeprefix("share ")) if name != "block-sparse" else None
        mask = Mask(blocks=setting.blocks(length, share))
        return lambda q, k, v: tiled(q, k, v, mask)
    if name in ("flex", "flex, block-sparse"):
        mask = Mask(blocks=setting.blocks(length, size=FLEX_BLOCK)) if name != "flex" else Mask()
        own = flex_mask(mask, length, length, device)  # made once, as a network would
        return lambda q, k, v: compiled()(q, k, v, block_mask=own)
    if name == "performer":
        omega = features(setting.features, setting.head_dim).to(device)
        return lambda q, k, v: performer(q, k, v, omega)
    if name == "linformer":
        rank = max(1, min(length // 8, setting.rank))
        e, f = (projection(rank, length, seed).to(device, TYPES[setting.precision]).requires_grad_(training) for seed in (0, 1))
        return lambda q, k, v: linformer(q, k, v, e, f)
    require(name in ("standard", "sdpa", "triton"), f"no attention is called {name!r}")
    return engine(name, device, training)


def share_computed(name: str, setting: Setting, length: int) -> float:
    """Share of the blocks that a contender computes."""
    if name == "flex, block-sparse":
        return setting.blocks(length, size=FLEX_BLOCK).share
    if name == "block-sparse":
        return setting.blocks(length).share
    return setting.blocks(length, float(name.removeprefix("share "))).share if name.startswith("share ") else 1.0
