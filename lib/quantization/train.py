"""Training with codebooks: after pruning, or while pruning goes on.  Hooks for :func:`lib.training.loop.fit`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from lib.pruning.allocate import masks
from lib.pruning.mask import set_masks
from lib.pruning.schedule import density_at
from lib.quantization.codebook import reassign, refit, shadows
from lib.system.checks import require

Hook = Callable[[nn.Module, int], None]


def reassigning(every: int, last: int) -> Hook:
    """Weights take the nearest entry's code after every ``every`` steps, up to step ``last``; then codes are settled."""
    require(every >= 1, f"every is {every}: it must be a number of steps from 1")

    def after_step(model: nn.Module, step: int) -> None:
        if step % every == 0 and step <= last:
            reassign(model)

    return after_step


def pruning_too(density: float, end: int, every: int, last: int, allocation: str = "lamp", floor: int = 0) -> Hook:
    """Gradual magnitude pruning of the latent weights up to step ``end`` (cubic, Zhu and Gupta 2017, arXiv 1710.01878), with
    codebooks all the while: each time after ``every`` steps weights go and k-means is run anew over those that stay.  After
    all other steps up to ``last`` weights take the nearest entry's code.

    The masks must cover the layers that have codebooks, and no others.
    """
    require(1 <= every <= end <= last, f"every {every}, end {end} and last {last} must be steps from 1, in this order")

    def after_step(model: nn.Module, step: int) -> None:
        if step <= end and (step % every == 0 or step == end):
            scores = {name: weight.abs() for name, weight in shadows(model).items()}
            share = float(density_at("cubic", step, 0, end, density))
            set_masks(model, masks(scores, share, allocation=allocation, floor=floor))
            refit(model)
        elif step <= last:
            reassign(model)

    return after_step
