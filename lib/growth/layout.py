"""One table: which size each dimension of each parameter of a GPT follows, and on which side of its product it stands.

Let a unit become n equal copies.  What reads the copies (an "in" dimension) must be divided by n, for it sums over them;
what makes them (an "out" dimension) must not.  Their derivatives behave the other way round, since n equal copies share
what one unit had.  Hence, per dimension that grows n-fold:

==========  =====  ========  ==============  ========================
dimension   value  gradient  AdamW's update  learning rate, to follow
==========  =====  ========  ==============  ========================
``"in"``    / n    the same  the same        / n
``"out"``   same   / n       the same        the same
==========  =====  ========  ==============  ========================

The values are HyperCloning's (arXiv 2409.12903); gradients and rates follow by the chain rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.models.gpt import GPTConfig
from lib.system.checks import require

KINDS = ("width", "hidden", "heads", "kv", "fixed")
FLOWS = ("out", "in")


@dataclass(frozen=True)
class Axis:
    """One dimension of a parameter.

    ``kind``   the size that it follows: "width" (residual stream), "hidden" (FFN), "heads", "kv" (heads of keys and
               values), or "fixed": vocabulary, positions, experts
    ``flow``   "in": the product sums over it; "out": it makes what others read
    ``parts``  equal parts laid one after the other, each of which grows by itself: gate and up of a SwiGLU expert
    """

    kind: str
    flow: str
    parts: int = 1


FIXED = Axis("fixed", "out")
WIDTH_OUT, WIDTH_IN = Axis("width", "out"), Axis("width", "in")
HIDDEN_OUT, HIDDEN_IN = Axis("hidden", "out"), Axis("hidden", "in")
HEADS_OUT, HEADS_IN = Axis("heads", "out"), Axis("heads", "in")
KV_OUT = Axis("kv", "out")

NETWORK = {
    "embed.weight": (FIXED, WIDTH_OUT),
    "positions": (FIXED, WIDTH_OUT),
    "head.weight": (FIXED, WIDTH_IN),
}

BLOCK = {
    "norm1.weight": (WIDTH_OUT,),
    "norm1.bias": (WIDTH_OUT,),
    "norm2.weight": (WIDTH_OUT,),
    "norm2.bias": (WIDTH_OUT,),
    "attention.q.weight": (HEADS_OUT, WIDTH_IN),
    "attention.q.bias": (HEADS_OUT,),
    "attention.k.weight": (KV_OUT, WIDTH_IN),
    "attention.k.bias": (KV_OUT,),
    "attention.v.weight": (KV_OUT, WIDTH_IN),
    "attention.v.bias": (KV_OUT,),
    "attention.out.weight": (WIDTH_OUT, HEADS_IN),
    "attention.out.bias": (WIDTH_OUT,),
    "ffn.gate.weight": (HIDDEN_OUT, WIDTH_IN),
    "ffn.gate.bias": (HIDDEN_OUT,),
    "ffn.up.weight": (HIDDEN_OUT, WIDTH_IN),
    "ffn.up.bias": (HIDDEN_OUT,),
    "ffn.down.weight": (WIDTH_OUT, HIDDEN_IN),
    "ffn.down.bias": (WIDTH_OUT,),
    "ffn.experts.w_out": (FIXED, HIDDEN_IN, WIDTH_OUT),
    "ffn.experts.b_out": (FIXED, WIDTH_OUT),
    "ffn.router.gate.weight": (FIXED, WIDTH_IN),
    "ffn.router.gate.bias": (FIXED,),
    "ffn.router.bias_E": (FIXED,),
}


def axes(name: str, config: GPTConfig) -> tuple[Axis, ...]:
    """The :class:`Axis` of each dimension of the parameter (or buffer) ``name`` of a GPT.

    Two entries depend on the configuration.  A tied matrix must stay the embedding that it is, so the division that its
    other use, as the head, asks for moves into the final norm, whose gain and bias therefore count as "in".  And the
    experts of a SwiGLU network hold gate and up side by side.

    Raises ValueError for a name that is not in the table.
    """
    if name in ("norm.weight", "norm.bias"):
        return (WIDTH_IN if config.tied else WIDTH_OUT,)
    _, inner = block_of(name)
    hidden = Axis("hidden", "out", parts=2 if config.ffn == "swiglu" else 1)
    table = NETWORK | BLOCK | {"ffn.experts.w_in": (FIXED, WIDTH_IN, hidden), "ffn.experts.b_in": (FIXED, hidden)}
    require(inner in table, f"parameter {name!r} is not in the table of lib/growth/layout.py: add its dimensions there")
    return table[inner]


def block_of(name: str) -> tuple[int | None, str]:
    """A parameter's block and its name in there, ``(3, "norm1.weight")``; ``(None, name)`` outside of blocks."""
    if not name.startswith("blocks."):
        return None, name
    _, block, inner = name.split(".", 2)
    return int(block), inner


def sizes(config: GPTConfig) -> dict[str, int]:
    """How many units of each kind there are."""
    return {"width": config.width, "hidden": config.hidden, "heads": config.heads, "kv": config.keys, "fixed": 1}
