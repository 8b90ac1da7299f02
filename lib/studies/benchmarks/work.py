"""What a method of the benchmarks chapter is, what it works with, and what a run that was paid for left behind."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from lib.data.images import ImageSet
from lib.elastic.compute import Paced
from lib.measure import cost as measure
from lib.runs.store import Session
from lib.studies.benchmarks.task import Task
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Batches, History, Recipe, Training, fit
from lib.training.losses import Loss


@dataclass(frozen=True, eq=False)
class Phase:
    """A run that is over.

    ``share``  of the method's budget that it was given;  ``steps`` that were taken;  ``step_flops`` of each of them
    ``peak_bytes``  see :func:`step_memory`
    """

    share: float
    history: History
    steps: int
    step_flops: float
    peak_bytes: int | None

    @property
    def flops(self) -> float:
        return self.steps * self.step_flops


@dataclass(frozen=True, eq=False)
class Trained:
    """What a method gives back: the weights that are kept, the runs in their order, further metrics."""

    model: nn.Module
    phases: tuple[Phase, ...]
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def spent(self) -> dict[str, float | bool | None]:
        """Metrics of the runs together: FLOPs and seconds in all, the largest of their memories."""
        flops = sum(phase.flops for phase in self.phases)
        seconds = sum(phase.history.seconds for phase in self.phases)
        peaks = [phase.peak_bytes for phase in self.phases]
        return {
            "train_flops": flops,
            "own_train_flops": flops,
            "train_seconds": seconds,
            "train_seconds_total": seconds,
            "train_peak_bytes": None if None in peaks else max(peaks),
            "steps": sum(phase.steps for phase in self.phases),
            "diverged": any(phase.history.diverged for phase in self.phases),
        }

    @property
    def curves(self) -> dict[str, list]:
        """Those of the runs one after the other; ``seconds`` and ``flops`` go on counting."""
        names = set.intersection(*(set(phase.history.curves) for phase in self.phases))
        found: dict[str, list] = {name: [] for name in sorted(names | {"flops"})}
        seconds = flops = 0.0
        for phase in self.phases:
            curves = phase.history.curves
            points = len(curves["seconds"])
            for name in names - {"seconds"}:
                found[name] += curves[name]
            found["seconds"] += [seconds + value for value in curves["seconds"]]
            found["flops"] += [flops + phase.flops * (point + 1) / points for point in range(points)]
            seconds, flops = seconds + phase.history.seconds, flops + phase.flops
        return found


@dataclass(frozen=True, eq=False)
class Work:
    """What a method trains with: task, family, its share of the budget, seed; the images, and the run's session."""

    task: Task
    family: str
    share: float
    seed: int
    images: ImageSet
    session: Session

    @property
    def device(self) -> torch.device:
        return self.session.device

    @property
    def recipe(self) -> Recipe:
        return self.task.recipe(self.family)

    @property
    def smoothing(self) -> float:
        return self.recipe.label_smoothing

    def accuracy(self, model: nn.Module) -> float:
        """On the validation images."""
        return evaluate_classifier(model, self.images.validation, self.images, precision=self.recipe.precision)["accuracy"]

    def fit(
        self,
        model: nn.Module,
        step_flops: float,
        loss: Callable[[Paced], Loss],
        *,
        share: float = 1.0,
        earlier: tuple[Phase, ...] = (),
        optimizers: list[Optimizer] | None = None,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        after_step: Callable[[nn.Module, int], None] | None = None,
        costliest: Loss | None = None,
    ) -> Phase:
        """Train ``model`` with ``share`` of the work's part of the budget, on batches that follow the ``earlier`` phases'.

        step_flops: of one image of one step.  loss: given the batches, whose clock some losses look at.
        evaluate: of each look at the validation images, the accuracy by default.
        costliest: a loss whose steps need the most memory, where not all do the same work.
        The rest is as in :func:`lib.training.loop.fit`.
        """
        first = sum(phase.steps for phase in earlier)
        batches, recipe = self.task.phase(self.images, self.family, share * self.share, step_flops, self.seed, first)
        begun = sum(phase.share for phase in earlier)
        history = fit(
            model,
            batches,
            loss(batches),
            recipe,
            seed=self.seed,
            optimizers=optimizers,
            evaluate=evaluate or (lambda model: {"val_accuracy": self.accuracy(model)}),
            after_step=after_step,
            checkpoint=self.session.checkpoint / f"phase{len(earlier)}",
            report=lambda part, text: self.session.report(begun + share * part, text),
        )
        steps = history.diverged_at or batches.steps * history.epochs
        return Phase(share, history, steps, step_flops * recipe.batch_size, step_memory(model, batches, costliest or loss(batches), recipe))


def step_memory(model: nn.Module, batches: Batches, loss: Loss, recipe: Recipe) -> int | None:
    """Most bytes that one step of the training needs beyond the weights and what the optimiser keeps; None where unknown.

    By :func:`lib.measure.cost.peak_memory`, of a copy in fp32 or under autocast as it is trained, never compiled.
    """
    one = Training(
        copy.deepcopy(model),
        batches,
        loss,
        replace(recipe, compile=False),
        seed=0,
        optimizers=None,
        after_step=None,
        report=lambda part, text: None,
    )
    one.model.train()
    return measure.peak_memory(lambda: one.run_step(0), one.device)


class Method(ABC):
    """A way to a finished network.  Subclasses are frozen dataclasses of numbers, strings and more of them."""

    #: Families that the method is for.
    families: ClassVar[tuple[str, ...]] = ("vit",)

    #: Names that :meth:`cut` knows.
    cuts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def network(self, task: Task, family: str, seed: int) -> nn.Module:
        """A new network that takes the weights which :meth:`train` gives, on the CPU."""

    @abstractmethod
    def train(self, work: Work) -> Trained:
        """Train with all of ``work``'s share of the budget."""

    def check(self, task: Task) -> None:
        """Raises ValueError, saying what to do, for a task that the method cannot do."""

    def cut(self, model: nn.Module, name: str | None) -> nn.Module:
        """The finished network in what was trained.  Raises ValueError for a name that is none of ``cuts``."""
        require(name is None, f"cut is {name!r}, but only an elastic network can be cut: leave it at None")
        return model
