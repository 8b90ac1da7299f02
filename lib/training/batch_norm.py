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
