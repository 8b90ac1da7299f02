"""Batch norm's running statistics, taken anew: where weights were changed without training, and where batches vary so much that
the running mean of their variances fits no image.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lib.system.checks import require
from lib.training.loop import Batches


def reestimate(model: nn.Module, batches: Batches, steps: int = 50) -> nn.Module:
    """Replace the running statistics by the mean over ``steps`` training batches, fewer where there are not so many.

    In place; weights stay as they are, and so does the mode.  Without batch norms nothing happens.  Returns ``model``.
    Raises ValueError for no steps.
    """
    require(steps >= 1, f"steps is {steps}: at least one batch is needed")
    device = next(model.parameters()).device

    def inputs() -> Iterator[Tensor]:
        for step in range(min(steps, batches.steps)):
            yield batches.batch(0, step)[0].to(device)

    with torch.no_grad():
        update_bn(inputs(), model)
    return model


@torch.no_grad()
def settle(model: nn.Module, batches: Batches, steps: int = 50) -> nn.Module:
    """Set the running statistics to the medians over ``steps`` training batches of each batch's own mean and variance.

    For networks whose activations have heavy tails: one image in thousands then makes the variance of its batch so large that
    the mean over batches fits no other image, and the median ignores it.  In place; the mode stays.  Returns ``model``.
    Raises ValueError for no steps.
    """
    require(steps >= 1, f"steps is {steps}: at least one batch is needed")
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {
        module: [] for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].float()
        seen[module].append(torch.var_mean(x, [d for d in range(x.ndim) if d != 1]))

    hooks = [module.register_forward_pre_hook(note) for module in seen]
    mode, device = model.training, next(model.parameters()).device
    try:
        model.train()
        for step in range(min(steps, batches.steps)):
            model(batches.batch(0, step)[0].to(device))
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    for module, found in seen.items():
        variance, mean = (torch.stack(values).median(0).values for values in zip(*found))
        module.get_buffer("running_var").copy_(variance)
        module.get_buffer("running_mean").copy_(mean)
    return model
