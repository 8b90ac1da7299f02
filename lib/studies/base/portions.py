"""A run cut into pieces of its own: the same batches in the same order, counted otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lib.training.loop import Batches


@dataclass(frozen=True)
class Portions:
    """The same batches in the same order, but in "epochs" of ``steps``, from batch number ``first`` on.

    So that a curve has a point every ``steps`` steps, and a run can go on from the middle of an epoch.
    """

    batches: Batches
    steps: int
    first: int = 0

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        return self.batches.batch(*divmod(self.first + epoch * self.steps + step, self.batches.steps))
