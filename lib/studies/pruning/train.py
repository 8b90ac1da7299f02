"""Training a network until few of its weights are left: the pruning chapter's main Spec, and our recipe for high ratios."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.images import ImageBatches, ImageSet
from lib.distillation.hinton import distillation
from lib.pruning.collapse import collapsed, purge
from lib.pruning.mask import attach, count, density, masks_of, prunable, set_masks, total
from lib.pruning.structure import imbalance
from lib.pruning.trainers import TRAINERS, Plan
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored, tested
from lib.studies.base.portions import Portions
from lib.studies.base.weights import loaded
from lib.studies.pruning.dense import DenseRun, build
from lib.system.checks import one_of, require
from lib.training.batch_norm import reestimate
from lib.training.loop import History, Recipe, fit
from lib.training.losses import Loss, classification_loss

#: What a run begins with: the parent's weights, or new ones of the same geometry.
STARTS = ("trained", "new")

#: Temperature of distillation.
TEMPERATURE = 4.0


@dataclass(frozen=True, kw_only=True)
class SparseRun(Spec):
    """Train the parent's network by one of the sparse methods.

    ``method``   a name of :data:`lib.pruning.trainers.TRAINERS`
    ``plan``     density, structure, allocation and timing
    ``start``    "trained": from the parent's weights; "new": from new ones
    ``recipe``   of the training in which the network becomes sparse
    ``rest``     of a second run after it, with the masks as they are and the learning rate begun anew; None for none
    ``distil``   share of the loss that the parent, as a teacher, has in both runs
    """

    experiment: ClassVar[str] = "pruning-sparse"

    parent: DenseRun
    method: str = "gradual"
    plan: Plan
    start: str = "trained"
    recipe: Recipe
    rest: Recipe | None = None
    distil: float = 0.0

    def __post_init__(self) -> None:
        one_of("method", self.method, TRAINERS)
        one_of("start", self.start, STARTS)
        require(0 <= self.distil <= 1, f"distil is {self.distil}: it must be the teacher's share of the loss, in [0, 1]")

    def run(self, session: Session) -> Outcome:
        images, recipe = self.parent.images(session), self.recipe
        batches = ImageBatches(images.train, images, recipe.batch_size, self.parent.augmentation, self.seed)
        trained = self.start == "trained"
        model = self.parent.load(session) if trained else build(self.parent.model, self.seed).to(session.device)
        loss = self.loss(session)
        trainer = TRAINERS[self.method](model, self.plan, recipe, batches, loss, self.seed)
        history = fit(
            model,
            batches,
            trainer.loss,
            recipe,
            seed=self.seed,
            optimizers=trainer.optimizers,
            after_step=trainer.after_step,
            evaluate=lambda model: watched(model, images, recipe),
            checkpoint=session.checkpoint / "first",
            report=session.report,
        )
        trainer.finish(model)
        if self.plan.purge and count(alive := purge(model, masks_of(model), images.shape)):
            set_masks(model, alive)
        reestimate(model, batches)
        histories = [history]
        if self.rest:
            histories.append(self.train_on(model, images, loss, session))
        session.save_weights(model)
        return self.outcome(model, images, histories)

    def loss(self, session: Session) -> Loss:
        if not self.distil:
            return classification_loss(self.recipe.label_smoothing)
        return taught(self.parent.load(session), self.distil, self.recipe.label_smoothing)

    def train_on(self, model: nn.Module, images: ImageSet, loss: Loss, session: Session) -> History:
        """The second training, on batches that follow those of the first."""
        seen = self.recipe.epochs * (len(images.train) // min(self.rest.batch_size, len(images.train)))
        batches = ImageBatches(images.train, images, self.rest.batch_size, self.parent.augmentation, self.seed)
        return fit(
            model,
            Portions(batches, batches.steps, seen),
            loss,
            self.rest,
            seed=self.seed + 1,
            evaluate=lambda model: watched(model, images, self.rest),
            checkpoint=session.checkpoint / "rest",
            report=session.report,
        )

    def outcome(self, model: nn.Module, images: ImageSet, histories: list[History]) -> Outcome:
        masks = masks_of(model)
        alive, everything = count(masks), total(masks)
        metrics = {
            "diverged": any(history.diverged for history in histories),
            "train_seconds": sum(history.seconds for history in histories),
            "weights": alive,
            "all_weights": everything,
            "density": alive / everything,
            "compression": everything / max(1, alive),
            "on_paths": count(purge(model, masks, images.shape)),
            "collapsed": bool(collapsed(masks)),
            "imbalance": max((imbalance(mask) for mask in masks.values() if mask.any()), default=None),
            **tested(model, images, self.recipe),
        }
        arrays = {
            "weights_by_layer": [int(mask.count_nonzero()) for mask in masks.values()],
            "all_weights_by_layer": [mask.numel() for mask in masks.values()],
        }
        return Outcome(significant(metrics), significant(joined(histories)), arrays, images.provenance())

    def load(self, session: Session) -> nn.Module:
        """The sparse network with its masks attached, in evaluation mode; trained first where it is not here."""
        return loaded(self, attach(build(self.parent.model, self.seed)), session)


def own(
    parent: DenseRun,
    density: float,
    recipe: Recipe,
    rest: Recipe,
    *,
    structure: str = "unstructured",
    every: int = 100,
    floor: int = 4,
    distil: float = 0.7,
    **changes,
) -> SparseRun:
    """Our recipe for high ratios, made of parts that others found; each can be left out by ``changes`` to the plan.

    From the trained network: gradual pruning with layers compared by LAMP, a floor for each layer, all of the budget on
    paths from the input to the output, exchange by the gradient (GraNet); the trained network as teacher; then a long
    training with masks that stay, the learning rate begun anew.  Weight averaging is the recipes' ``ema``.
    """
    plan = Plan(
        density=density,
        begin=0.0,
        end=0.6,
        settle=0.9,
        every=every,
        structure=structure,
        allocation="lamp",
        floor=floor,
        regrow=0.1,
        purge=True,
    )
    return SparseRun(
        parent=parent, method="granet", plan=replace(plan, **changes), recipe=recipe, rest=rest, distil=distil, seed=parent.seed
    )


def taught(teacher: nn.Module, share: float, label_smoothing: float = 0.0) -> Loss:
    """The gradient is that of Hinton's loss: ``share`` · T² · KL(teacher ‖ student) + (1 - ``share``) · cross-entropy.

    The *value* is the cross-entropy with the labels alone.  So curves compare with those without a teacher; and a softened
    loss, which rises to ten times that of the labels when a network that knew everything loses its weights, is not taken
    for a run that diverges.
    """

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            known = teacher(inputs).float()
        logits = model(inputs).float()
        labelled = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        mixed = share * distillation(logits, known, TEMPERATURE) + (1 - share) * labelled
        hard = targets if targets.ndim == 1 else targets.argmax(-1)
        return (labelled.detach() + mixed - mixed.detach(), {"train_accuracy": (logits.detach().argmax(-1) == hard).float().mean()})

    return loss


def watched(model: nn.Module, images: ImageSet, recipe: Recipe) -> dict[str, float]:
    """Validation scores, the share of weights that are there as the network acts now, and the emptiest layer's number.

    Where a method trains without masks, weights that are not zero count.
    """
    masks = masks_of(model) or {name: weight != 0 for name, weight in prunable(model).items()}
    return scored(model, images.validation, images, recipe, "val") | {
        "density": density(masks),
        "emptiest": min(int(mask.count_nonzero()) for mask in masks.values()),
    }


def joined(histories: list[History]) -> dict[str, list]:
    """The curves of runs that followed each other; seconds go on counting."""
    names = set.intersection(*(set(history.curves) for history in histories)) if histories else set()
    curves: dict[str, list] = {name: [] for name in sorted(names)}
    for history in histories:
        before = curves["seconds"][-1] if curves.get("seconds") else 0.0
        for name in curves:
            curves[name] += [value + before for value in history.curves[name]] if name == "seconds" else history.curves[name]
    return curves
