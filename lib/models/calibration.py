"""Calibration: what each linear layer reads when a trained network sees some text.

    found = gather(lambda: model(batch), [layer])[layer]              # one pass, nothing is changed
    sequentially(model, blocks, batches, change)                      # block by block, each after the change of the earlier

Methods that compress without training need no more of the data than a few sums per layer: XᵀX, and the mean and the
largest |x| of each feature.  Layers are visited in the order in which they run, as in GPTQ and SparseGPT's code, and only
one block's inputs and one group's sums are in memory.  Inputs are rounded, pruned or scaled by whatever came before, so
that each layer can make up for the errors of the earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.system.checks import require


class Statistics:
    """Sums over the rows x [I] that a linear layer read, in fp32, or in fp64 where the rows are.

    ``count``       rows
    ``gram_II``     Σ x xᵀ
    ``absolute_I``  Σ |x|
    ``largest_I``   max |x|
    """

    def __init__(self, features: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
        self.count = 0
        self.gram_II = torch.zeros(features, features, dtype=dtype, device=device)
        self.absolute_I, self.largest_I = (torch.zeros(features, dtype=dtype, device=device) for _ in range(2))

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Add all rows of ``x`` [..., I]."""
        x_TI = x.flatten(0, -2).to(self.gram_II.dtype)
        self.count += len(x_TI)
        self.gram_II.addmm_(x_TI.T, x_TI)
        self.absolute_I += x_TI.abs().sum(0)
        self.largest_I = torch.maximum(self.largest_I, x_TI.abs().amax(0))

    def divided(self, scale_I: Tensor) -> Statistics:
        """Those of the rows divided by ``scale_I`` [I], feature by feature."""
        found = Statistics(len(scale_I), self.gram_II.dtype, self.gram_II.device)
        found.count, found.gram_II = self.count, self.gram_II / torch.outer(scale_I, scale_I)
        found.absolute_I, found.largest_I = self.absolute_I / scale_I, self.largest_I / scale_I
        return found

    @property
    def norm_I(self) -> Tensor:
        """‖x‖₂ of each feature, over all rows."""
        return self.gram_II.diagonal().sqrt()

    @property
    def mean_I(self) -> Tensor:
        """Mean |x| of each feature."""
        return self.absolute_I / self.count


def statistics_of(x_TI: Tensor) -> Statistics:
    """The statistics of rows that are at hand."""
    found = Statistics(x_TI.shape[-1], torch.promote_types(x_TI.dtype, torch.float32), x_TI.device)
    found.add(x_TI)
    return found


def output_error(weight_OI: Tensor, changed_OI: Tensor, statistics: Statistics) -> float:
    """Σ ‖W x - Ŵ x‖² over the rows that were read, over Σ ‖W x‖²: the error of a layer's output, relative."""

    def energy(weight_OI: Tensor) -> Tensor:
        weight_OI = weight_OI.to(statistics.gram_II.dtype)
        return ((weight_OI @ statistics.gram_II) * weight_OI).sum()

    return float(energy(weight_OI - changed_OI) / energy(weight_OI))


@torch.no_grad()
def gather(run: Callable[[], Any], layers: Sequence[nn.Linear]) -> dict[nn.Linear, Statistics]:
    """What each of ``layers`` reads while ``run()`` runs.

    Raises ValueError where a layer did not run.
    """
    found: dict[nn.Linear, Statistics] = {}

    def note(layer: nn.Linear, args: tuple) -> None:
        (x,) = args
        if layer not in found:
            found[layer] = Statistics(x.shape[-1], torch.promote_types(x.dtype, torch.float32), x.device)
        found[layer].add(x)

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    require(len(found) == len(set(layers)), f"{len(set(layers)) - len(found)} of the layers did not run: leave them out")
    return found


Change = Callable[[Mapping[str, nn.Linear], Statistics], None]


@torch.no_grad()
def sequentially(model: nn.Module, blocks: Sequence[nn.Module], batches: Iterable[Tensor], change: Change) -> None:
    """Visit all linear layers of ``blocks``, first to last, and ``change`` them, in place.

    blocks: what ``model`` runs one after the other, each on the output of the one before.  batches: inputs of ``model``.
    change(layers, statistics): called with layers, by their names in ``model``, that read the same tensor, such as queries,
    keys and values, and what they read: computed by the blocks, and by the layers of the same block, as they are *after*
    the earlier calls.

    Each block runs up to each group of its layers, and once more as a whole: the price of seeing the changed inputs, which
    GPTQ's code calls "true sequential".  Raises ValueError for a model that keeps keys and values between calls.
    """
    inputs = [first_inputs(model, blocks[0], batch) for batch in batches]
    require(inputs, "calibration needs at least one batch")
    names = {module: name for name, module in model.named_modules()}
    for block in blocks:
        for group in groups(block, inputs[0]):

            def run() -> None:
                for each in inputs:
                    each.until(group[0], block)

            statistics = gather(run, group[:1])[group[0]]
            change({names[layer]: layer for layer in group}, statistics)
        for each in inputs:
            each.x = each(block)


class Inputs:
    """What a block is called with: a hidden state ``x``, and the rest, which is the same for all blocks."""

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self.x, self.rest, self.kwargs = args[0], args[1:], kwargs

    def __call__(self, block: nn.Module) -> Tensor:
        y = block(self.x, *self.rest, **self.kwargs)
        return y[0] if isinstance(y, tuple) else y

    def until(self, layer: nn.Module, block: nn.Module) -> None:
        """Run ``block`` up to ``layer``, one of its own."""

        def stop(*_: object) -> None:
            raise Reached

        hook = layer.register_forward_hook(stop)
        try:
            self(block)
        except Reached:
            pass
        finally:
            hook.remove()


class Reached(Exception):
    """What is wanted has been read; nothing that follows need run."""


def first_inputs(model: nn.Module, block: nn.Module, batch: Tensor) -> Inputs:
    """What ``block`` is called with when ``model`` sees ``batch``."""
    caught = []

    def catch(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        caught.append(Inputs(args, kwargs))
        raise Reached

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(batch)
    except Reached:
        pass
    finally:
        hook.remove()
    require(caught, "the model never ran its first block")
    kept = [name for name in ("cache", "past_key_values") if caught[0].kwargs.get(name) is not None]
    require(not kept, "the model keeps keys and values between calls: set model.config.use_cache = False")
    return caught[0]


@torch.no_grad()
def groups(block: nn.Module, inputs: Inputs) -> list[list[nn.Linear]]:
    """The linear layers of ``block`` in the order in which they run; those that read the same tensor are one group."""
    seen: list[tuple[Tensor, list[nn.Linear]]] = []  # tensors are kept, so that none gets the identity of another

    def note(layer: nn.Linear, args: tuple) -> None:
        if seen and seen[-1][0] is args[0]:
            seen[-1][1].append(layer)
        else:
            seen.append((args[0], [layer]))

    hooks = [module.register_forward_pre_hook(note) for module in block.modules() if isinstance(module, nn.Linear)]
    try:
        inputs(block)
    finally:
        for hook in hooks:
            hook.remove()
    return [layers for _, layers in seen]
