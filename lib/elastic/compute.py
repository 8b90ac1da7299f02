"""Training everything with the same compute: how much a sampler's step costs, and epochs of another length."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lib.elastic.config import Space
from lib.elastic.cost import cost, embedding_cost
from lib.elastic.samplers import Sampler
from lib.models.vit import ViTConfig
from lib.training.loop import Batches

#: Steps that are drawn to find a sampler's mean cost: its standard error is then well below 1 %.
DRAWS = 1000


@functools.lru_cache
def step_cost(sampler: Sampler, space: Space, config: ViTConfig, draws: int = DRAWS) -> float:
    """FLOPs of a sampler's mean step over those of a step of the whole network, averaged over the training.

    A step makes tokens of its images once, and all its sub-networks take these.  From sampled steps with a fixed seed; torch's random state stays as it was.
    """
    whole, shared = cost(space.largest, config).flops, embedding_cost(config)[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spent = [sum(cost(one.size, config).flops - shared for one in sampler.passes(space, i / draws)) for i in range(draws)]
    return (shared + sum(spent) / draws) / whole


class Paced:
    """The same batches in epochs of ``steps`` steps, going on where the last epoch stopped; and a clock.

    ``progress`` is the share of ``epochs`` epochs that was over when the latest batch was asked for, so it is right
    also where training was resumed.
    """

    def __init__(self, batches: Batches, steps: int, epochs: int):
        self.batches, self.steps, self.epochs = batches, steps, epochs
        self.now = 0.0

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        taken = epoch * self.steps + step
        self.now = taken / (self.steps * self.epochs)
        return self.batches.batch(*divmod(taken, self.batches.steps))

    def progress(self) -> float:
        return self.now
