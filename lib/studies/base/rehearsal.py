"""The first step of training, counted instead of trained on: how much work a run is, known in a moment and on any machine.

with rehearsing():
    fit(model, batches, loss, recipe, seed=0)      # raises Counted, which holds the Work of the whole of it
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib.measure.flop_count import count_flops
from lib.training.loop import Batches, Recipe, Training
from lib.training.random_state import reseed

#: Rows of the two batches that are counted.  What a step costs is a number per row and one per step.
ROWS = 2, 4


@dataclass(frozen=True)
class Work:
    """One training: optimiser ``steps``, the ``flops`` of each, and the ``operations`` that each starts on the device, views left out."""

    steps: int
    flops: float
    operations: int
    recipe: Recipe


class Counted(Exception):
    """Training was about to begin: its work, and the untrained model."""

    def __init__(self, work: Work, model: nn.Module) -> None:
        super().__init__(f"{work.steps} steps")
        self.work, self.model = work, model


@contextlib.contextmanager
def rehearsing() -> Iterator[None]:
    """Let every :func:`lib.training.loop.fit` count its first step on a few rows, and raise :class:`Counted`."""
    with mock.patch.object(Training, "run_epoch", counted), mock.patch.object(torch, "compile", lambda function, **options: function):
        yield


def counted(training: Training, checkpoint: object) -> None:
    training.model.train()
    whole, flops, operations = training.batches, [], 0
    rows = len(leaf(whole.batch(0, 0)))
    for few in ROWS:
        training.batches = Few(whole, few)
        reseed(training.seed, 0)  # what a step draws, the width of a network perhaps, is drawn alike
        with Operations() as started:
            flops.append(count_flops(lambda: training.run_step(0)))
        operations = started.count
    each = (flops[1] - flops[0]) / (ROWS[1] - ROWS[0])
    steps = whole.steps * training.recipe.epochs
    raise Counted(Work(steps, flops[0] + each * (rows - ROWS[0]), operations, training.recipe), training.model)


def leaf(part: Any) -> torch.Tensor:
    return leaf(part[0]) if isinstance(part, tuple) else part


class Few:
    """The first few rows of every batch."""

    def __init__(self, batches: Batches, rows: int) -> None:
        self.batches, self.rows, self.steps = batches, rows, batches.steps

    def batch(self, epoch: int, step: int) -> Any:
        return self.cut(self.batches.batch(epoch, step))

    def cut(self, part: Any) -> Any:
        return tuple(map(self.cut, part)) if isinstance(part, tuple) else part[: self.rows]


class Operations(TorchDispatchMode):
    """Count the operations that run: each is a kernel or a few on a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))
