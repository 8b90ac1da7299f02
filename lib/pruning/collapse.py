"""Collapse: a layer without weights cuts a network in two.  And weights that are kept but that nothing passes through.

check(masks)                                       # raises Collapse, naming the layers
masks = purge(model, masks, shape=(3, 32, 32))     # without the weights on no path from an input to an output
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.pruning.allocate import masks as masks_by
from lib.pruning.mask import Masks, bake, count, gradients, prunable, total
from lib.pruning.mask import check as check_names
from lib.pruning.score import flow_of, neutralise
from lib.pruning.structure import NAMED, Structure
from lib.system.checks import require

#: Layers through which paths can be followed: those that send a positive signal on, or add signals up.
TRANSPARENT = (nn.ReLU, nn.Identity, nn.Flatten, nn.Dropout, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


class Collapse(RuntimeError):
    """Layers have lost all their weights, so nothing of the input reaches the output.  ``layers``: their names."""

    def __init__(self, layers: list[str]):
        super().__init__(f"no weight is left in {', '.join(map(repr, layers))}: prune less, allocate by 'erk' or 'lamp', or set a floor")
        self.layers = layers


def collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    """Names of the layers without a surviving weight."""
    return [name for name, mask in masks.items() if not mask.any()]


def check(masks: Mapping[str, Tensor]) -> None:
    """Raise :class:`Collapse` where a layer has no surviving weight."""
    if empty := collapsed(masks):
        raise Collapse(empty)


def purge(model: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...]) -> Masks:
    """The masks without weights that lie on no path of surviving weights from an input to an output.

    shape: of one input, without the batch.  ``count(before) - count(after)`` weights are freed for others: see
    :func:`effective`.  Paths are counted by one backward pass in float64 with all surviving weights at 1, through batch
    norms, pooling and shortcuts alike, and by position: the outer cells of a 3×3 kernel that only ever meets a 1×1 image
    are dead.  What goes changes nothing, except that a channel without inputs may have sent on a constant, from its bias or
    its batch norm's shift.

    Raises ValueError for a layer through which paths cannot be followed, such as attention.
    """
    check_names(masks, prunable(model), complete=False)
    paths = bake(copy.deepcopy(model)).double().eval().requires_grad_()
    for name, module in list(paths.named_modules()):
        if isinstance(module, nn.MaxPool2d):  # which sends gradients to one position only
            paths.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode))
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            module.weight.data = (module.weight != 0).double() if name not in masks else masks[name].to(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                neutralise(module)
        else:
            followed = isinstance(module, TRANSPARENT) or next(module.children(), None) is not None
            require(followed, f"paths cannot be followed through {name!r}, a {type(module).__name__}")
    device = next(paths.parameters()).device
    found = gradients(paths, lambda: flow_of(paths(torch.ones(1, *shape, dtype=torch.float64, device=device))))
    return {name: mask & (found[name] > 0) for name, mask in masks.items()}


def effective(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    density: float,
    shape: tuple[int, ...],
    structure: Structure = NAMED["unstructured"],
    allocation: str = "global",
    floor: int = 0,
) -> Masks:
    """Masks whose *effective* density, after :func:`purge`, is ``density`` or just below: the freed budget is given back.

    The idea is that of Vysogorets and Kempe (2023, arXiv 2107.02306).  The nominal density is found by bisection; the number
    of live weights almost always grows with it.  Where it jumps, from a layer without weights to one with some, what is
    left may be far below: use a floor, or an allocation that empties no layer.
    """
    wanted = round(density * total(scores))
    low, high = wanted, sum(structure.capacity(tuple(score.shape)) for score in scores.values())
    best = purge(model, masks_by(scores, low, structure, allocation, floor), shape)
    while low < high and count(best) < wanted:
        middle = (low + high + 1) // 2
        found = purge(model, masks_by(scores, middle, structure, allocation, floor), shape)
        if count(found) <= wanted:
            low, best = middle, found
        else:
            high = middle - 1
    return best
