"""Lottery tickets: iterative magnitude pruning with rewinding, and the controls that tickets have to beat."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from safetensors.torch import load_file
from torch import nn

from lib.data.images import ImageSet
from lib.pruning.mask import Masks, attach, bake, density, masks_of, ones, prunable
from lib.pruning.tickets import SCOPES, next_masks, scattered, shuffled
from lib.runs import checkpoint as training_state
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored, tested
from lib.studies.pruning.dense import DenseRun, build
from lib.system.checks import one_of, require
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss

#: What becomes of the survivors' weights between two levels; see :class:`TicketRun`.
RETRAININGS = ("rewind", "lr-rewind", "finetune")

#: What tickets are compared with; see :class:`ControlRun`.
CONTROLS = ("reinitialised", "shuffled", "random")

#: Learning rate of fine-tuning, of the first one: where a schedule of steps would have ended.
FINE = 0.01


@dataclass(frozen=True, kw_only=True)
class TicketRun(Spec):
    """Prune the parent's weights level by level, training again at each.

    ``levels``      how many; each takes ``amount`` of the weights that are left; 0 for the network that is trained as long and
                    loses nothing
    ``rewind``      step of the parent's training to which survivors go back; the parent must keep a snapshot of it
    ``retraining``  "rewind": survivors go back; "lr-rewind": they keep their values, and the learning rate goes back;
                    "finetune": they keep them, at a small constant rate.  All train for the steps left after ``rewind``
    ``scope``       "global" or "layerwise" comparison of magnitudes
    ``iterative``   False: each level is pruned from the dense network at once, to the same density
    """

    experiment: ClassVar[str] = "pruning-tickets"

    parent: DenseRun
    levels: int = 10
    amount: float = 0.2
    rewind: int = 0
    retraining: str = "rewind"
    scope: str = "global"
    iterative: bool = True

    def __post_init__(self) -> None:
        require(self.levels >= 1, f"levels is {self.levels}: it must be at least 1")
        require(0 <= self.amount < 1, f"amount is {self.amount}: it must be a share of the weights that are left, in [0, 1)")
        require(
            self.rewind in self.parent.snapshots,
            f"rewind is {self.rewind}, but the parent's snapshots are {self.parent.snapshots}: add that step to them",
        )
        one_of("retraining", self.retraining, RETRAININGS)
        one_of("scope", self.scope, SCOPES)

    def run(self, session: Session) -> Outcome:
        images, folder = self.parent.images(session), session.checkpoint / "levels"
        dense = self.parent.load(session)
        found, masks, records = {}, ones(prunable(dense)), []
        trained = dense
        if stored := training_state.load(folder):  # the levels that are finished
            tensors, record = stored
            records = record["levels"]
            found = {
                level: {name: tensors[f"level{level}.{name}"].to(session.device) for name in masks} for level in range(1, len(records) + 1)
            }
            masks = found[len(records)]
            trained = build(self.parent.model, self.seed)
            trained.load_state_dict({name: tensors[f"weights.{name}"] for name in trained.state_dict()})
            trained.to(session.device)
        for level in range(len(records) + 1, self.levels + 1):
            source, before = (trained, masks) if self.iterative else (dense, ones(masks))
            amount = self.amount if self.iterative else 1 - (1 - self.amount) ** level
            masks = next_masks(prunable(source), before, amount, self.scope)
            model = attach(self.start(session, trained if self.iterative else dense), masks)

            def report(part: float, text: str, level: int = level) -> None:
                session.report((level - 1 + part) / self.levels, f"level {level}: {text}")

            records.append(trained_level(model, self.parent, images, *self.schedule(images), self.seed, report))
            trained, found[level] = bake(model), masks
            state = {f"level{n}.{name}": mask for n, kept in found.items() for name, mask in kept.items()}
            training_state.save(
                folder, state | {f"weights.{name}": value for name, value in trained.state_dict().items()}, {"levels": records}
            )
        session.save_weights(trained, **{f"level{level}": kept for level, kept in found.items()})
        shutil.rmtree(folder, ignore_errors=True)
        return outcome(records, images)

    def start(self, session: Session, trained: nn.Module) -> nn.Module:
        """Where a level's training starts: a network without masks."""
        if self.retraining == "rewind":
            return self.parent.load(session, self.rewind)
        model = build(self.parent.model, self.seed)
        model.load_state_dict(trained.state_dict())
        return model.to(session.device)

    def schedule(self, images: ImageSet) -> tuple[Recipe, int]:
        """How a level is trained, and from which batch on."""
        recipe = remaining(self.parent, images, self.rewind)
        if self.retraining == "finetune":
            recipe = replace(recipe, lr=FINE * recipe.lr, warmup=0.0, final_lr=1.0)
        return recipe, self.rewind

    def masks(self, session: Session, level: int) -> Masks:
        """The masks of that level, found first where they are not here; level 0 keeps everything."""
        require(0 <= level <= self.levels, f"level is {level}: this run has levels 0 to {self.levels}")
        if level == 0:
            return ones(prunable(self.parent.load(session)))
        tensors, prefix = load_file(session.weights(self)), f"level{level}."
        return {name.removeprefix(prefix): mask.to(session.device) for name, mask in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True, kw_only=True)
class ControlRun(Spec):
    """Train what looks like the parent's tickets but is not: at each of its levels one thing is changed.

    ``control``  "reinitialised": its masks on another initialisation, trained from step 0; "shuffled": as many weights
                 in each layer, at random places; "random": as many in all, at random places.  The last two start from the
                 ticket's own weights
    ``which``    the levels to train
    """

    experiment: ClassVar[str] = "pruning-controls"

    parent: TicketRun
    control: str
    which: tuple[int, ...]

    def __post_init__(self) -> None:
        one_of("control", self.control, CONTROLS)
        require(
            self.which and all(1 <= level <= self.parent.levels for level in self.which),
            f"which is {self.which}: name levels from 1 to {self.parent.levels}",
        )

    def run(self, session: Session) -> Outcome:
        dense = self.parent.parent
        images, records = dense.images(session), []
        for number, level in enumerate(self.which):
            masks, again = self.parent.masks(session, level), self.control == "reinitialised"
            # Another initialisation than that of any run's own seed.
            model = (
                build(dense.model, 1_000_003 * (level + 1) + self.seed).to(session.device)
                if again
                else dense.load(session, self.parent.rewind)
            )
            if self.control == "shuffled":
                masks = shuffled(masks, self.seed)
            elif self.control == "random":
                masks = scattered(masks, self.seed)
            schedule = (dense.recipe, 0) if again else (remaining(dense, images, self.parent.rewind), self.parent.rewind)

            def report(part: float, text: str, number: int = number, level: int = level) -> None:
                session.report((number + part) / len(self.which), f"level {level}: {text}")

            records.append(trained_level(attach(model, masks), dense, images, *schedule, self.seed, report))
        return outcome(records, images, self.which)


def remaining(dense: DenseRun, images: ImageSet, taken: int) -> Recipe:
    """The recipe for the steps after the first ``taken``, to whole epochs (or portions), with what is left of the warm-up.

    The cosine begins anew and runs over the steps that are left.  A rewound ticket of the paper goes on along the original
    one.  The two differ little only where ``taken`` is a few per cent of all steps, as rewinding to an early step is;
    rounding to whole epochs may then give all of them back.
    """
    recipe, per_epoch = dense.recipe, dense.batches(images).steps
    steps = recipe.epochs * per_epoch
    left = max(1, round((steps - taken) / per_epoch))
    return replace(recipe, epochs=left, warmup=max(0.0, recipe.warmup * steps - taken) / (left * per_epoch))


def trained_level(
    model: nn.Module, dense: DenseRun, images: ImageSet, recipe: Recipe, first: int, seed: int, report: Callable[[float, str], None]
) -> dict:
    """Train a masked network.  Returns its record: scores at the end, and where validation loss was lowest.

    ``stop_step`` counts from the network's initialisation, so it includes the steps before a rewinding; ``last_step`` is
    that of the last look, at which training was not long enough to show a minimum.
    ``stop_test_accuracy`` is the accuracy there: what the paper reports, as if training had been stopped.
    """
    lowest: dict = {"val_loss": float("inf")}
    batches = dense.batches(images, first=first)

    def evaluate(model: nn.Module) -> dict[str, float]:
        scores = scored(model, images.validation, images, recipe, "val")
        if scores["val_loss"] < lowest["val_loss"]:
            state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            lowest.update(val_loss=scores["val_loss"], state=state, epoch=len(losses) + 1)
        losses.append(scores["val_loss"])
        return scores

    losses: list[float] = []
    history = fit(model, batches, classification_loss(recipe.label_smoothing), recipe, seed=seed, evaluate=evaluate, report=report)
    own = {
        "density": density(masks_of(model)),
        "diverged": history.diverged,
        "train_seconds": history.seconds,
        **tested(model, images, recipe),
        "val_curve": history.curves["val_accuracy"],
    }
    if "state" in lowest:
        last = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(lowest["state"])
        own |= {
            "stop_step": first + lowest["epoch"] * batches.steps,
            "last_step": first + len(losses) * batches.steps,
            "stop_val_loss": lowest["val_loss"],
            "stop_test_accuracy": scored(model, images.test, images, recipe, "test")["test_accuracy"],
        }
        model.load_state_dict(last)
    return significant(own)


def outcome(records: list[dict], images: ImageSet, which: tuple[int, ...] | None = None) -> Outcome:
    """One value per level in each curve; validation accuracy over time, level by level, in an array."""
    names = [name for name in records[0] if name != "val_curve"]
    curves = {"level": list(which or range(1, len(records) + 1))}
    curves |= {name: [record.get(name) for record in records] for name in names}
    metrics = {
        "levels": len(records),
        "density": records[-1]["density"],
        "val_accuracy": records[-1]["val_accuracy"],
        "test_accuracy": records[-1]["test_accuracy"],
        "train_seconds": sum(record["train_seconds"] for record in records),
    }
    return Outcome(
        significant(metrics), curves, {"val_accuracy_by_epoch": [record["val_curve"] for record in records]}, images.provenance()
    )
