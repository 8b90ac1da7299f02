"""Block Influence: how much a transformer block turns what passes through it (Men et al. 2024, ShortGPT, arXiv 2403.03853).

Blocks whose output points where their input did are the first to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def influence(x: Tensor, y: Tensor) -> float:
    """1 - mean cos(x, y) over all tokens (eq. 1) of a block's input and output, [..., D]."""
    return 1 - float(F.cosine_similarity(x, y, dim=-1, eps=1e-12).mean())


@torch.no_grad()
def influences(model: nn.Module, blocks: Sequence[nn.Module], batches: Iterable[Tensor]) -> list[float]:
    """The Block Influence of each of ``blocks``, mean over all batches, which must be equally large."""
    found: list[list[float]] = [[] for _ in blocks]

    def note(number: int):
        def hook(_: nn.Module, args: tuple, y: Tensor | tuple) -> None:
            found[number].append(influence(args[0], y[0] if isinstance(y, tuple) else y))

        return hook

    hooks = [block.register_forward_hook(note(number)) for number, block in enumerate(blocks)]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return [sum(each) / len(each) for each in found]


def least(scores: Sequence[float], count: int) -> list[int]:
    """The ``count`` blocks with the least influence, in their order: what ShortGPT removes (section 3.2)."""
    return sorted(sorted(range(len(scores)), key=lambda number: scores[number])[:count])
