"""Masks: which weights are there.  The one thing that all pruning methods of this book share.

    attach(model, masks)                    # from now on weight = latent where the mask is True, else 0
    masks_of(model); set_masks(model, masks)
    bake(model)                             # a plain network again, its pruned weights zero

A mask is a parametrization (``torch.nn.utils.parametrize``): the optimiser holds the *latent* weight, the layer computes
with the masked one.  So nothing that an optimiser does (momentum, weight decay, averaging) can bring a pruned weight back,
and masks travel with the state: ``deepcopy``, ``state_dict`` and :func:`lib.training.loop.fit`'s checkpoints keep them.
A mask saves neither time nor memory; :mod:`lib.pruning.physical` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.system.checks import did_you_mean, require

#: Layer name → bool tensor of its weight's shape, True where the weight stays.
Masks = dict[str, Tensor]


class Mask(nn.Module):
    """The parametrization w ↦ w where ``mask``, else 0.  Its gradient is zero where the weight is.

    By selection, not by w · mask: a latent weight that is not finite, or negative, still gives +0.0.
    """

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask.to(torch.bool).clone())

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0.0)


def layers(model: nn.Module, ignored: Iterable[str] = ()) -> dict[str, nn.Module]:
    """Linear and Conv2d layers by name, in the order of their definition, without those called ``ignored``.

    Raises ValueError for an ignored name that is no such layer.
    """
    found = {name: module for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    for name in ignored:
        if name not in found:
            raise ValueError(f"no layer is called {name!r}: it cannot be ignored.{did_you_mean(name, found)}")
        del found[name]
    return found


def prunable(model: nn.Module, ignored: Iterable[str] = ()) -> dict[str, Tensor]:
    """The weights [O, I] and [O, I, kh, kw] of :func:`layers` as they act: masked where a mask is attached."""
    return {name: module.weight for name, module in layers(model, ignored).items()}


def attach(model: nn.Module, masks: Mapping[str, Tensor] | None = None, ignored: Iterable[str] = ()) -> nn.Module:
    """Mask the named layers of ``model``, in place; a second call replaces the masks.  Returns ``model``.

    masks: None for all True, on every layer that is not ``ignored``.
    Raises ValueError, saying which, for a name that is no layer or a mask of another shape.
    """
    known = layers(model, ignored)
    weights = {name: module.weight for name, module in known.items()}
    masks = ones(weights) if masks is None else masks
    check(masks, weights, complete=False)
    left_out = set(attached(model)) - set(masks)
    require(not left_out, f"{sorted(left_out)} have masks already and none among the new: give them too, or bake() first")
    for name, mask in masks.items():
        module = known[name]
        if is_masked(module):
            parametrization(module).mask.copy_(mask)
        else:
            parametrize.register_parametrization(module, "weight", Mask(mask.to(module.weight.device)), unsafe=True)
    return model


def masks_of(model: nn.Module) -> Masks:
    """Copies of the attached masks, by layer; empty where none is."""
    return {name: parametrization(module).mask.clone() for name, module in attached(model).items()}


@torch.no_grad()
def set_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Overwrite all attached masks.  Raises ValueError, saying which, unless names and shapes are those attached."""
    known = attached(model)
    require(known, "the model has no masks: attach() them first")
    check(masks, {name: parametrization(module).mask for name, module in known.items()})
    for name, module in known.items():
        parametrization(module).mask.copy_(masks[name])


def latent(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights behind the masks, by layer: what the optimiser holds, pruned ones included."""
    return {name: module.parametrizations.weight.original for name, module in attached(model).items()}


@torch.no_grad()
def bake(model: nn.Module) -> nn.Module:
    """Remove the masks and leave their zeros in the weights, in place: a plain module again.  Returns ``model``.

    Whatever else is parametrized on these weights goes with them.  Not by ``parametrize.remove_parametrizations``: it
    deletes the weight from the layer's class, which a deep copy shares, and so breaks the other one.
    Raises ValueError where another tensor of a masked layer is parametrized too.
    """
    for name, module in attached(model).items():
        require(len(module.parametrizations) == 1, f"more of {name!r} than its weight is parametrized: remove that first")
        original = module.parametrizations.weight.original
        original.copy_(module.weight)
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        module.register_parameter("weight", original)
    return model


def gradients(model: nn.Module, loss: Callable[[], Tensor], ignored: Iterable[str] = (), **options) -> dict[str, Tensor]:
    """Gradient of ``loss()`` by each weight as it acts, also where it is pruned: what RigL and GraNet regrow by.

    The latent weight's own gradient is zero there.  ``loss`` must call the model itself, once or more.
    options: of ``torch.autograd.grad``, such as ``create_graph``.  Parameters' ``grad`` fields stay as they are.
    """
    with torch.enable_grad(), parametrize.cached():
        weights = prunable(model, ignored)  # first, so that the loss finds these very tensors in the cache
        found = torch.autograd.grad(loss(), list(weights.values()), **options)
    return dict(zip(weights, found))


def ones(weights: Mapping[str, Tensor]) -> Masks:
    """Masks that keep everything."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def count(masks: Mapping[str, Tensor]) -> int:
    """Weights that are there."""
    return sum(int(mask.count_nonzero()) for mask in masks.values())


def total(masks: Mapping[str, Tensor]) -> int:
    """Weights that there could be."""
    return sum(mask.numel() for mask in masks.values())


def density(masks: Mapping[str, Tensor]) -> float:
    """Share of the weights that are there.  Its reciprocal is what papers call the compression ratio."""
    return count(masks) / total(masks)


def sparsity(model: nn.Module, ignored: Iterable[str] = ()) -> float:
    """Share of the weights of :func:`layers` that are exactly zero, masked or baked."""
    weights = prunable(model, ignored)
    return 1 - count(weights) / total(weights)


def attached(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in layers(model).items() if is_masked(module)}


def is_masked(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module, "weight") and any(isinstance(p, Mask) for p in module.parametrizations.weight)


def parametrization(module: nn.Module) -> Mask:
    return next(p for p in module.parametrizations.weight if isinstance(p, Mask))


def check(masks: Mapping[str, Tensor], wanted: Mapping[str, Tensor], complete: bool = True) -> None:
    """Raise ValueError unless each mask is of a wanted weight and of its shape, and, if ``complete``, none is missing."""
    for name, mask in masks.items():
        if name not in wanted:
            raise ValueError(f"no layer to be masked is called {name!r}.{did_you_mean(name, wanted)}")
        require(
            mask.shape == wanted[name].shape,
            f"the mask of {name!r} has the shape {tuple(mask.shape)}, its weight {tuple(wanted[name].shape)}",
        )
    missing = [name for name in wanted if complete and name not in masks]
    require(not missing, f"there is no mask for {', '.join(map(repr, missing))}")
