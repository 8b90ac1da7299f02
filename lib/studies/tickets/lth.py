"""Lottery tickets in a pre-trained encoder: finding them, their controls, and moving them to other tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from safetensors import safe_open
from torch import nn

from lib.data.masked_lm import masked_lm_loss
from lib.data.tasks import TASKS
from lib.models.encoder import MaskedLM
from lib.pruning.mask import Masks, attach, count, density
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.tickets.checkpoint import CheckpointRun
from lib.studies.tickets.finetune import STARTS, TaskSize, classifier, load_task, started, tested, tune
from lib.studies.tickets.pretrain import PretrainRun, masked_batches, scored
from lib.studies.tickets.text import material
from lib.studies.tickets.words_head import WordsHeadRun
from lib.system.checks import one_of, require
from lib.tickets.lth import iterative_pruning, randomly_removed, smallest_removed
from lib.training.loop import History, Recipe, fit

#: What tickets are tickets of: a pre-training of our own, a checkpoint, or a checkpoint with a head for masked words.
Parent = PretrainRun | CheckpointRun | WordsHeadRun

#: The pre-training task itself can be pruned on and transferred to.
GOALS = ("mlm", *TASKS)

#: Where a subnetwork's masks come from: a round of a ticket; the smallest pre-trained weights, without any training; chance.
MASKS = ("ticket", "direct", "random", "none")


@dataclass(frozen=True, kw_only=True)
class IterativeRun(Spec):
    """Iterative magnitude pruning on one task, see :func:`lib.tickets.lth.iterative_pruning`.

    ``task``        "mlm" or a task; "mlm" has as many windows per epoch as a task of this size has examples
    ``sparsities``  of the rounds; the paper's are a tenth of the original weights apart
    ``rewind``      0: back to the pre-trained weights; a share of the training; None: standard pruning, no way back
    """

    experiment: ClassVar[str] = "tickets-lth"

    parent: Parent
    task: str = "order"
    size: TaskSize = field(default_factory=TaskSize)
    recipe: Recipe = field(default_factory=Recipe)
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    rewind: float | None = 0.0

    def __post_init__(self) -> None:
        one_of("task", self.task, GOALS)
        require(self.sparsities, "a ticket needs at least one sparsity")

    def run(self, session: Session) -> Outcome:
        goal = goal_of(self, session)

        def train(model: nn.Module, after_step: Callable | None, number: int) -> dict[str, Any]:
            history = goal.train(model, self.seed, f"round-{number}", after_step)
            return goal.tested(model) | {"seconds": history.seconds, "diverged": history.diverged}

        rounds, model = iterative_pruning(
            lambda: goal.model(self.seed, "pretrained"), train, self.sparsities, rewind=self.rewind, steps=self.recipe.epochs * goal.steps
        )
        session.save_weights(model, **{f"masks{number}": round.masks for number, round in enumerate(rounds) if number})
        curves = {"sparsity": [round.sparsity for round in rounds]} | {
            name: [round.outcome[name] for round in rounds]
            for name in ("val_accuracy", "test_accuracy", "test_loss", "val_matthews", "test_matthews")
            if name in rounds[0].outcome
        }
        scored_by = [name for name in curves if name.endswith(("_accuracy", "_matthews"))]
        ends = {f"{prefix}{name}": curves[name][place] for name in scored_by for prefix, place in (("dense_", 0), ("", -1))}
        direct = smallest_removed(goal.model(self.seed, "pretrained").encoder, self.sparsities[-1])
        metrics = {
            "diverged": any(round.outcome["diverged"] for round in rounds),
            "train_seconds": sum(round.outcome["seconds"] for round in rounds),
            "density": density(rounds[-1].masks),
            "shared_with_direct": shared(rounds[-1].masks, direct),
            **ends,
        }
        arrays = {
            "density_by_layer": [[round.sparsity, *(mask.float().mean().item() for mask in round.masks.values())] for round in rounds[1:]]
        }
        return Outcome(significant(metrics), significant(curves), significant(arrays), goal.provenance())

    def masks(self, session: Session, sparsity: float) -> Masks:
        """The masks of the round at this sparsity; the ticket is found first where it is not here."""
        require(sparsity in self.sparsities, f"this ticket has no round at {sparsity}: choose one of {self.sparsities}")
        group = f"masks{1 + self.sparsities.index(sparsity)}."
        with safe_open(session.weights(self), framework="pt") as file:
            return {name.removeprefix(group): file.get_tensor(name).bool() for name in file.keys() if name.startswith(group)}


@dataclass(frozen=True, kw_only=True)
class SubnetworkRun(Spec):
    """Train a subnetwork on ``task``: the tickets' controls, and their transfer to other tasks.

    ``masks``     see :data:`MASKS`; "ticket" takes those of ``ticket``, whichever task it was found on
    ``sparsity``  share of the weights that are missing
    ``start``     weights of the subnetwork before training: "pretrained", "random", "shuffled"
    """

    experiment: ClassVar[str] = "tickets-subnetwork"

    parent: Parent
    ticket: IterativeRun | None = None
    task: str = "order"
    size: TaskSize = field(default_factory=TaskSize)
    recipe: Recipe = field(default_factory=Recipe)
    masks: str = "ticket"
    sparsity: float = 0.7
    start: str = "pretrained"

    def __post_init__(self) -> None:
        one_of("task", self.task, GOALS)
        one_of("masks", self.masks, MASKS)
        one_of("start", self.start, STARTS)
        require((self.masks == "ticket") == (self.ticket is not None), "masks='ticket', and only that, needs a ticket")

    def run(self, session: Session) -> Outcome:
        goal = goal_of(self, session)
        model = goal.model(self.seed, self.start)
        masks = self.find(model, session)
        if masks:
            attach(model.encoder, {name: mask.to(session.device) for name, mask in masks.items()})
        history = goal.train(model, self.seed)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "density": density(masks) if masks else 1.0,
            **goal.tested(model),
        }
        return Outcome(significant(metrics), significant({"train_loss": history.curves["train_loss"]}), data=goal.provenance())

    def find(self, model: nn.Module, session: Session) -> Masks:
        if self.masks == "ticket":
            return self.ticket.masks(session, self.sparsity)
        if self.masks == "direct":
            return smallest_removed(self.parent.load(session).encoder, self.sparsity)
        return randomly_removed(model.encoder, self.sparsity, self.seed) if self.masks == "random" else {}


def shared(first: Masks, second: Masks) -> float:
    """The share of what ``first`` keeps that ``second`` keeps too."""
    return sum(int((mask & second[name]).sum()) for name, mask in first.items()) / count(first)


class TaskGoal:
    """A classification task that a subnetwork is trained and tested on."""

    def __init__(self, spec: IterativeRun | SubnetworkRun, session: Session):
        self.spec, self.session = spec, session
        self.task = load_task(spec.parent, spec.task, spec.size, session)
        self.steps = len(self.task.train) // spec.recipe.batch_size

    def model(self, seed: int, start: str) -> nn.Module:
        return classifier(self.spec.parent, self.session, self.task, seed, start)

    def train(self, model: nn.Module, seed: int, stage: str = "", after_step: Callable | None = None) -> History:
        return tune(model, self.task, self.spec.recipe, seed, self.session, after_step=after_step, stage=stage, watch=False)

    def tested(self, model: nn.Module) -> dict[str, float]:
        return tested(model, self.task, self.spec.recipe)

    def provenance(self) -> dict[str, Any]:
        return self.task.provenance()


class LanguageGoal:
    """Masked language modelling as such a task; its accuracy is the share of hidden tokens that are guessed."""

    def __init__(self, spec: IterativeRun | SubnetworkRun, session: Session):
        self.spec, self.session, self.read = spec, session, material(spec.parent.source)
        self.steps = max(1, spec.size.train // spec.recipe.batch_size)

    def model(self, seed: int, start: str) -> MaskedLM:
        return started(self.spec.parent, self.session, seed, start)

    def train(self, model: nn.Module, seed: int, stage: str = "", after_step: Callable | None = None) -> History:
        recipe, session = self.spec.recipe, self.session
        # A seed of its own: pre-training has seen other texts in this order.
        batches = masked_batches(self.spec.parent, self.read.train, session.device, recipe.batch_size, self.steps, f"ticket-{seed}")
        return fit(
            model,
            batches,
            masked_lm_loss,
            recipe,
            seed=seed,
            after_step=after_step,
            checkpoint=session.checkpoint / stage,
            report=session.report,
        )

    def tested(self, model: nn.Module) -> dict[str, float]:
        precision = self.spec.recipe.precision
        return scored(self.spec.parent, model, "val", precision) | scored(self.spec.parent, model, "test", precision)

    def provenance(self) -> dict[str, Any]:
        return self.read.provenance()


def goal_of(spec: IterativeRun | SubnetworkRun, session: Session) -> TaskGoal | LanguageGoal:
    return (LanguageGoal if spec.task == "mlm" else TaskGoal)(spec, session)
