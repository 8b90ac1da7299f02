"""Fine-tuning: a new head on the pre-trained encoder, trained on one task.  The steps that all of the tickets chapter's runs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from lib.data.tasks import TASKS, Task, TaskBatches, evaluate_task
from lib.measure import cost as measure
from lib.models.encoder import Classifier, Encoder, MaskedLM
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.weights import loaded
from lib.studies.tickets.checkpoint import CheckpointRun
from lib.studies.tickets.pretrain import PretrainRun
from lib.studies.tickets.text import task_of
from lib.system.checks import one_of
from lib.training.loop import History, Recipe, fit
from lib.training.losses import classification_loss

#: Weights that a fine-tuning may begin with.
STARTS = ("pretrained", "random", "shuffled")


@dataclass(frozen=True)
class TaskSize:
    """How much of a task there is: ``train`` examples, ``held_out`` in validation and in test (SST-2 has its own)."""

    train: int = 2_000
    held_out: int = 1_000


@dataclass(frozen=True, kw_only=True)
class FinetuneRun(Spec):
    """Fine-tune the whole encoder on a task: what every ticket of the chapter is compared with.

    ``start``  "pretrained"; "random": the same network without pre-training; "shuffled": see :func:`shuffle`
    """

    experiment: ClassVar[str] = "tickets-finetune"

    parent: PretrainRun | CheckpointRun
    task: str = "order"
    size: TaskSize = field(default_factory=TaskSize)
    recipe: Recipe = field(default_factory=Recipe)
    start: str = "pretrained"

    def __post_init__(self) -> None:
        one_of("task", self.task, TASKS)
        one_of("start", self.start, STARTS)

    def run(self, session: Session) -> Outcome:
        model = self.fresh(session)
        metrics, curves, task = self.tune(model, session, self.seed)
        session.save_weights(model)
        return Outcome(significant(metrics | {"parameters": measure.parameters(model)}), significant(curves), data=task.provenance())

    def task_on(self, session: Session) -> Task:
        return load_task(self.parent, self.task, self.size, session)

    def fresh(self, session: Session, start: str | None = None) -> Classifier:
        """The network as it is before its fine-tuning, or with the weights of another ``start``."""
        return classifier(self.parent, session, self.task_on(session), self.seed, start or self.start)

    def bare(self, session: Session) -> Classifier:
        """A network of this shape, with any weights: to load others into."""
        torch.manual_seed(0)
        classes = self.task_on(session).classes
        return Classifier(Encoder(self.parent.geometry), classes, self.parent.pad).to(session.device)

    def load(self, session: Session) -> Classifier:
        """The fine-tuned network, in evaluation mode; trained first where it is not here."""
        return loaded(self, self.bare(session), session)

    def tune(
        self, model: nn.Module, session: Session, seed: int, recipe: Recipe | None = None
    ) -> tuple[dict[str, Any], dict[str, list], Task]:
        """Train any network on this task as this run trains its own, or by another recipe: metrics, curves, and the task."""
        task, recipe = self.task_on(session), recipe or self.recipe
        history = tune(model, task, recipe, seed, session)
        metrics = {"diverged": history.diverged, "train_seconds": history.seconds, **tested(model, task, recipe)}
        return metrics, history.curves, task


def load_task(parent: PretrainRun | CheckpointRun, name: str, size: TaskSize, session: Session) -> Task:
    """A task in the words of the parent's source, on the session's device."""
    return task_of(parent.source, name, size.train, size.held_out).to(session.device)


def classifier(parent: PretrainRun | CheckpointRun, session: Session, task: Task, seed: int, start: str = "pretrained") -> Classifier:
    """An encoder and its pooler, the parent's unless ``start`` says otherwise, with a new head, drawn by ``seed``."""
    one_of("start", start, STARTS)
    model = started(parent, session, seed, start)
    torch.manual_seed(seed)
    return Classifier(model.encoder, task.classes, parent.pad, model.pooler).to(session.device)


#: Added to a run's seed for random weights: the pre-trained network's own first weights, drawn by *its* seed, would be no
#: independent control of masks that were found on what became of them.
OTHER_WEIGHTS = 1_000_000


def started(parent: PretrainRun | CheckpointRun, session: Session, seed: int, start: str) -> MaskedLM:
    """The pre-trained network, or what it is compared with; its pooler goes into a classifier, as BERT's does."""
    model = (parent.untrained(OTHER_WEIGHTS + seed) if start == "random" else parent.load(session)).to(session.device)
    if start == "shuffled":
        shuffle(model, seed)
    return model


@torch.no_grad()
def shuffle(model: MaskedLM, seed: int) -> None:
    """Each matrix of the blocks and the pooler gets its own entries in random places.

    What was learnt goes, its distribution stays.  The third control of the lottery tickets in BERT (arXiv 2007.12223,
    section 3); embeddings, biases and norms stay.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in (*model.encoder.blocks.parameters(), model.pooler.weight):
        if weight.ndim == 2:
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].view_as(weight))


def tune(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    seed: int,
    session: Session,
    *,
    loss: Callable | None = None,
    after_step: Callable[[nn.Module, int], None] | None = None,
    watch: bool = True,
    stage: str = "",
) -> History:
    """Train a classifier on a task, from the model's state now; the last epoch counts, nothing is chosen.

    ``watch``: evaluate on validation after each epoch (``val_accuracy``, ``val_loss``).  ``stage``: names the training where
    a Spec has several, so that each keeps its own state in the session's checkpoint.
    """

    def evaluate(model: nn.Module) -> dict[str, float]:
        return scored(model, task, recipe, "validation", "val")

    return fit(
        model,
        TaskBatches(task.train, recipe.batch_size, seed),
        loss or classification_loss(recipe.label_smoothing),
        recipe,
        seed=seed,
        evaluate=evaluate if watch else None,
        after_step=after_step,
        checkpoint=session.checkpoint / stage,
        report=session.report,
    )


def scored(model: nn.Module, task: Task, recipe: Recipe, split: str, name: str) -> dict[str, Any]:
    scores = evaluate_task(model, getattr(task, split), precision=recipe.precision)
    return {f"{name}_{score}": value for score, value in scores.items() if score != "matthews" or task.name == "cola"}


def tested(model: nn.Module, task: Task, recipe: Recipe) -> dict[str, Any]:
    """Validation and test scores of a finished model."""
    return scored(model, task, recipe, "validation", "val") | scored(model, task, recipe, "test", "test")
