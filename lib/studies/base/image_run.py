"""What runs that train a network on images share: which images, by which recipe, and how the network is scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lib.data.augment import Augmentation
from lib.data.images import ImageBatches, ImageSet, Split
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.images import available_images
from lib.studies.base.weights import loaded
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Batches, History, Recipe, fit
from lib.training.losses import Loss, classification_loss


@dataclass(frozen=True, kw_only=True)
class ImageRun(Spec):
    """Train on images; a subclass says what.

    ``train_examples``  None: all there are
    ``augmentation``    what is done to training images
    """

    dataset: str = "digits"
    train_examples: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def images(self, session: Session) -> ImageSet:
        return available_images(self.dataset, self.train_examples, session.device)


@dataclass(frozen=True, kw_only=True)
class LabelRun(ImageRun):
    """Train a network from labels alone, from scratch; a subclass says which network, and what is measured beside its accuracy."""

    def network(self) -> nn.Module:
        raise TypeError(f"{type(self).__name__} does not say what it trains")

    def measured(self, model: nn.Module, images: ImageSet) -> dict[str, Any]:
        return {}

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        torch.manual_seed(self.seed)
        model = self.network().to(session.device)
        history = fitted(
            session,
            images,
            model,
            ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, self.seed),
            classification_loss(self.recipe.label_smoothing),
            self.recipe,
            seed=self.seed,
        )
        session.save_weights(model)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            **self.measured(model, images),
            **tested(model, images, self.recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def load(self, session: Session) -> nn.Module:
        """The trained network, in evaluation mode; trained first where it is not here."""
        return loaded(self, self.network(), session)


def fitted(
    session: Session, images: ImageSet, model: nn.Module, batches: Batches, loss: Loss, recipe: Recipe, *, seed: int, **more: Any
) -> History:
    """Train ``model`` as :func:`lib.training.loop.fit` does, with the session's checkpoint and report, scored on validation images."""
    return fit(
        model,
        batches,
        loss,
        recipe,
        seed=seed,
        checkpoint=session.checkpoint,
        report=session.report,
        evaluate=lambda model: scored(model, images.validation, images, recipe, "val"),
        **more,
    )


def scored(model: nn.Module, split: Split, images: ImageSet, recipe: Recipe, name: str) -> dict[str, float]:
    """``{name_accuracy, name_loss}`` on one part of the images."""
    scores = evaluate_classifier(model, split, images, precision=recipe.precision)
    return {f"{name}_{score}": value for score, value in scores.items()}


def tested(model: nn.Module, images: ImageSet, recipe: Recipe) -> dict[str, float]:
    """Scores of a finished network on the validation and the test images."""
    return scored(model, images.validation, images, recipe, "val") | scored(model, images.test, images, recipe, "test")
