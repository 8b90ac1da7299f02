"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of a model's parameters over training steps, kept beside the model.

    ``torch.optim.swa_utils.AveragedModel`` averages either all buffers or none.  Batch norm's running
    statistics belong to the weights and must be averaged with them; masks and counters must not.
    The average is swapped into the model itself for evaluation, so that whatever refers to the model
    (hooks, closures) sees it.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.live = dict(model.named_parameters()) | batch_norm_statistics(model)
        self.average = {name: tensor.detach().clone() for name, tensor in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Count the weights after ``step`` steps in.  Early on the decay is (1 + step) / (10 + step), so
        that the random start is soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [t.detach() for t in self.live.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model holds the average; afterwards its own weights again, bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in self.live.items()}
        self.apply()
        try:
            yield
        finally:
            overwrite(self.live, own)

    def apply(self) -> None:
        """Give the model the average for good."""
        overwrite(self.live, self.average)


@torch.no_grad()
def overwrite(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    torch._foreach_copy_(list(target.values()), [source[name] for name in target])


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": getattr(module, kind)
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for kind in ("running_mean", "running_var")
        if getattr(module, kind) is not None
    }
