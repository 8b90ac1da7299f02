"""What all stages of the benchmarks chapter's chains are: a run that brings one more constraint, and keeps those that are there.

Masks and codebooks are parametrizations, so whatever trains the network later cannot undo them; codes that are there go on
following their weights for the first :data:`SETTLE` of each later stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from lib.data.images import ImageSet
from lib.distillation.early_exit import UpTo
from lib.distillation.exits import ExitNet
from lib.measure import cost as measure
from lib.quantization.codebook import books
from lib.quantization.train import reassigning
from lib.studies.base.portions import Portions
from lib.studies.benchmarks.task import Task
from lib.training.loop import Batches, Recipe
from lib.training.losses import Loss, classification_loss

#: Share of a stage's training after which codes and masks stay as they are.
SETTLE = 0.75

#: How often masks change in a whole stage, about.
CHANGES = 20


@dataclass(frozen=True)
class Setting:
    """Where a stage finds itself: the ``share`` of the budget that it may spend, and ``first`` batches were seen before it."""

    task: Task
    family: str
    images: ImageSet
    share: float
    seed: int
    first: int
    teacher: Callable[[], nn.Module]

    @property
    def batches(self) -> Portions:
        return self.task.batches(self.images, self.family, self.seed, self.first)

    @property
    def flops(self) -> float:
        """What it may spend."""
        return self.share * self.task.training_flops(self.images, self.family)


@dataclass(frozen=True)
class Training:
    """What a stage adds to :func:`lib.training.loop.fit`; ``finish`` is called after it."""

    loss: Loss
    after_step: Callable[[nn.Module, int], None] = lambda model, step: None
    optimizers: list[Optimizer] | None = None
    finish: Callable[[nn.Module], None] = lambda model: None


class Stage:
    """Base of all stages."""

    #: Whether the teacher's answers are asked for in each step, and must be paid for.
    taught = False

    def form(self, model: nn.Module, task: Task, family: str) -> nn.Module:
        """A plain network of the geometry that the stage leaves of ``model``, with any weights."""
        return model

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        """The network as its training begins, and the FLOPs that getting there took."""
        return model, 0.0

    def training(self, model: nn.Module, batches: Batches, recipe: Recipe, setting: Setting) -> Training:
        return Training(classification_loss(recipe.label_smoothing))

    def end(self, model: nn.Module) -> nn.Module:
        """The network as later stages get it."""
        return model


def followed(model: nn.Module, after_step: Callable[[nn.Module, int], None], steps: int) -> Callable[[nn.Module, int], None]:
    """The hook, and after it new codes for the weights of a network with codebooks, until they settle."""
    if not books(model):
        return after_step
    # After each step: codes that wait are those of weights that have moved on.
    follow = reassigning(1, max(1, round(SETTLE * steps)))

    def both(model: nn.Module, step: int) -> None:
        after_step(model, step)
        follow(model, step)

    return both


def often(steps: int) -> int:
    """Steps between two changes of masks in a stage of so many."""
    return max(1, round(steps / CHANGES))


def forward_flops(model: nn.Module, shape: tuple[int, int, int]) -> float:
    """FLOPs of one image's forward pass in training: of all classifiers where there are several."""
    if isinstance(model, ExitNet):
        model = UpTo(model, model.count - 1)
    return measure.flops(model, torch.zeros(1, *shape, device=next(model.parameters()).device))
