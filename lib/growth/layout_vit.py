"""The table of :mod:`lib.growth.layout` for a vision transformer with dense FFNs.

Patches and classes are fixed.  Queries, keys and values lie one after the other in one matrix, each of which grows by
itself.  The head is a matrix of its own, so what it reads is divided there and the final norm's output is not.
"""

from __future__ import annotations

from lib.growth.layout import FIXED, HEADS_IN, HIDDEN_IN, HIDDEN_OUT, WIDTH_IN, WIDTH_OUT, Axis, block_of
from lib.models.vit import ViTConfig
from lib.system.checks import require

QKV_OUT = Axis("heads", "out", parts=3)

NETWORK = {
    "embed.weight": (WIDTH_OUT, FIXED),
    "embed.bias": (WIDTH_OUT,),
    "positions": (FIXED, WIDTH_OUT),
    "class_token": (WIDTH_OUT,),
    "norm.weight": (WIDTH_OUT,),
    "norm.bias": (WIDTH_OUT,),
    "head.weight": (FIXED, WIDTH_IN),
    "head.bias": (FIXED,),
}

BLOCK = {
    "norm1.weight": (WIDTH_OUT,),
    "norm1.bias": (WIDTH_OUT,),
    "norm2.weight": (WIDTH_OUT,),
    "norm2.bias": (WIDTH_OUT,),
    "attention.qkv.weight": (QKV_OUT, WIDTH_IN),
    "attention.qkv.bias": (QKV_OUT,),
    "attention.out.weight": (WIDTH_OUT, HEADS_IN),
    "attention.out.bias": (WIDTH_OUT,),
    "ffn.fc1.weight": (HIDDEN_OUT, WIDTH_IN),
    "ffn.fc1.bias": (HIDDEN_OUT,),
    "ffn.fc2.weight": (WIDTH_OUT, HIDDEN_IN),
    "ffn.fc2.bias": (WIDTH_OUT,),
}


def axes(name: str, config: ViTConfig) -> tuple[Axis, ...]:
    """The :class:`~lib.growth.layout.Axis` of each dimension of the parameter ``name`` of a ViT.

    Raises ValueError for a name that is not in the table.
    """
    block, inner = block_of(name)
    table = NETWORK if block is None else BLOCK
    require(inner in table, f"parameter {name!r} is not in the table of lib/growth/layout_vit.py: add its dimensions there")
    return table[inner]


def sizes(config: ViTConfig) -> dict[str, int]:
    """How many units of each kind there are."""
    return {"width": config.width, "hidden": config.hidden, "heads": config.heads, "fixed": 1}


def check(config: ViTConfig) -> None:
    """Raises ValueError, saying what to do, for a ViT that cannot grow."""
    require(config.moe is None, "the network has experts: grow a dense one, or merge them first (lib.models.vit_merge)")
    require(
        isinstance(config.heads, int) and isinstance(config.hidden, int),
        f"heads {config.heads} and hidden {config.hidden} differ by layer: give one number for all layers to grow it",
    )
    require(config.head_hidden is None, "the head has a hidden layer, which no growth knows: leave head_hidden at None")
