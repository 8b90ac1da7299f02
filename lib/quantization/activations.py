"""Rounded activations: what a linear layer reads, on a grid of its own for each token.

with rounded_inputs(layers, bits=8):
    logits = model(tokens)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lib.quantization.grid import nearest


def rounded(x: Tensor, bits: int) -> Tensor:
    """``x`` [..., I] rounded, symmetric, with one scale per token: its largest |x| on the highest code.

    Such scales are found while the network runs ("per-token dynamic" in SmoothQuant, arXiv 2211.10438, table 2).
    """
    return nearest(x.flatten(0, -2), bits, symmetric=True).view(x.shape)


@contextmanager
def rounded_inputs(layers: Iterable[nn.Linear], bits: int) -> Iterator[None]:
    """Let ``layers`` read rounded inputs for as long as the block lasts."""
    hooks = [layer.register_forward_pre_hook(lambda _, args: (rounded(args[0], bits),)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
