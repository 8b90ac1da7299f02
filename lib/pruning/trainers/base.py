"""What runs of sparse networks share: the plan, and what each method adds to :func:`lib.training.loop.fit`.

    trainer = GraNet(model, Plan(density=0.01), recipe, batches, loss)
    fit(model, batches, trainer.loss, recipe, seed=0, optimizers=trainer.optimizers, after_step=trainer.after_step)
    trainer.finish(model)                              # masks that hold, whatever the method trained with

All that a trainer remembers from step to step is in the model's buffers and the optimisers, so an interrupted training
goes on with the same masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.pruning import allocate
from lib.pruning.mask import Masks, attach, gradients, latent, prunable, set_masks, total
from lib.pruning.schedule import cubic
from lib.pruning.structure import structure
from lib.system.checks import one_of, require
from lib.system.precision import autocast
from lib.training import optim
from lib.training.loop import Batches, Recipe
from lib.training.losses import Loss


@dataclass(frozen=True)
class Plan:
    """When, how far and in which shape a run becomes sparse.  Raises ValueError for what makes no sense.

    ``density``     share of the weights that are there at the end
    ``begin``       share of the training after which weights begin to go
    ``end``         share of it after which the final density is reached; in between, by Zhu and Gupta's cubic
    ``settle``      share of it after which masks stay as they are
    ``every``       steps between two changes of the masks
    ``structure``   by name, see :func:`lib.pruning.structure.structure`
    ``allocation``  between layers, see :data:`lib.pruning.allocate.ALLOCATIONS`
    ``floor``       weights that each layer keeps at least
    ``regrow``      of a method that regrows: the share of the survivors that is exchanged at first
    ``purge``       of a method that regrows: whether weights on no path from input to output make room for others.  Of a
                    larger piece that meets 1×1 images only, it counts the part that does something
    """

    density: float
    begin: float = 0.0
    end: float = 0.5
    settle: float = 0.75
    every: int = 100
    structure: str = "unstructured"
    allocation: str = "global"
    floor: int = 0
    regrow: float = 0.5
    purge: bool = False

    def __post_init__(self) -> None:
        require(0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights in (0, 1]")
        require(
            0 <= self.begin <= self.end <= self.settle <= 1,
            f"begin {self.begin}, end {self.end} and settle {self.settle} must be shares of the training in this order",
        )
        require(self.every >= 1, f"every is {self.every}: it must be a number of steps from 1")
        require(self.floor >= 0, f"floor is {self.floor}: it must be a number of weights from 0")
        require(0 <= self.regrow < 1, f"regrow is {self.regrow}: it must be a share in [0, 1)")
        one_of("allocation", self.allocation, allocate.ALLOCATIONS)
        structure(self.structure)


class Trainer:
    """Base of all methods: masks are attached, all True, and nothing is pruned."""

    #: Whether it can only choose single weights.
    unstructured_only = False

    def __init__(self, model: nn.Module, plan: Plan, recipe: Recipe, batches: Batches, loss: Loss, seed: int = 0):
        name = type(self).__name__
        require(
            not self.unstructured_only or plan.structure == "unstructured",
            f"{name} prunes single weights: structure {plan.structure!r} needs another method, such as 'gradual'",
        )
        self.plan, self.recipe, self.batches, self.base_loss, self.seed = plan, recipe, batches, loss, seed
        self.structure = structure(plan.structure)
        self.steps = recipe.epochs * batches.steps
        self.first, self.last, self.settled = (round(share * self.steps) for share in (plan.begin, plan.end, plan.settle))
        self.weights = total(prunable(model))
        self.prepare(model)
        self.optimizers = self.optimizers_of(model)

    @property
    def budget(self) -> int:
        """Weights that are there at the end."""
        return round(self.plan.density * self.weights)

    def budget_at(self, step: int) -> int:
        """Weights that may be there after ``step``."""
        if step >= self.last:
            return self.budget
        return round(self.weights * cubic((step - self.first) / (self.last - self.first), self.plan.density))

    def due(self, step: int) -> bool:
        """Whether masks change after this step: each ``every`` steps until they settle, and when the last weights go."""
        if step == self.last:
            return True
        return self.first <= step <= self.settled and (step - self.first) % self.plan.every == 0

    # What a method defines

    def prepare(self, model: nn.Module) -> None:
        """Attach what the method trains with, in place."""
        attach(model)

    def optimizers_of(self, model: nn.Module) -> list[Optimizer]:
        recipe = self.recipe
        return optim.build(
            model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=recipe.betas, momentum=recipe.momentum
        )

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor):
        return self.base_loss(model, inputs, targets)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Called by ``fit`` after the optimiser's step number ``step``, from 1."""

    def finish(self, model: nn.Module) -> None:
        """Leave the model with masks of the final density, whatever it was trained with."""

    # What methods use

    def sizes(self, model: nn.Module) -> dict[str, Tensor]:
        """Magnitudes of the weights as they act: what is pruned has none."""
        return {name: weight.detach().abs() for name, weight in prunable(model).items()}

    def keep_best(self, model: nn.Module, budget: int) -> None:
        """Masks of the plan's structure and allocation over the largest of the weights that act.

        N:M and patterns never keep more than a share of the weights, so their masks begin there.
        """
        sizes = self.sizes(model)
        budget = min(budget, sum(self.structure.capacity(tuple(size.shape)) for size in sizes.values()))
        set_masks(model, allocate.masks(sizes, budget, self.structure, self.plan.allocation, self.plan.floor))

    def dense_gradients(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        """Of the loss on the batch of that step, by all weights, also the pruned ones.

        One more pass at each change of the masks; the optimiser's own gradients are gone by then.
        """
        device = next(model.parameters()).device
        inputs, targets = (part.to(device) for part in self.batches.batch(*divmod(step - 1, self.batches.steps)))

        def loss() -> Tensor:
            with autocast(device, self.recipe.precision):
                return self.base_loss(model, inputs, targets)[0]

        return gradients(model, loss)

    @torch.no_grad()
    def start_at_zero(self, model: nn.Module, where: Mapping[str, Tensor]) -> None:
        """Weights at these places become zero and forget their momentum: what is regrown must not bring back old values."""
        for name, parameter in latent(model).items():
            parameter[where[name]] = 0.0
            for optimizer in self.optimizers:
                for state in optimizer.state.get(parameter, {}).values():
                    if isinstance(state, Tensor) and state.shape == parameter.shape:
                        state[where[name]] = 0.0

    @torch.no_grad()
    def forget_momentum(self) -> None:
        """All moments become zero."""
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    if isinstance(value, Tensor) and value.ndim:  # Adam's count of steps is a tensor without dimensions
                        value.zero_()


def kept_highest(scores: Mapping[str, Tensor], budget: int) -> Masks:
    """The ``budget`` highest scores of all layers together."""
    return allocate.masks(scores, budget)
