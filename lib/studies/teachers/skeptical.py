"""Students that listen to their teacher with a shallow part only: the Specs on skeptical students."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from lib.data.images import ImageBatches, ImageSet
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.hinton import check_settings
from lib.distillation.skeptical import skeptical_loss
from lib.measure import cost as measure
from lib.models.resnet import ResNet, ResNetConfig
from lib.runs.results import Outcome, significant
from lib.runs.store import Session
from lib.studies.base.image_run import fitted
from lib.studies.base.images import available_images
from lib.studies.base.weights import loaded
from lib.studies.distillation.api import TaughtRun, against, own_seed, sizes
from lib.studies.teachers.exits import all_logits
from lib.system.checks import require
from lib.training.loop import Recipe


@dataclass(frozen=True, kw_only=True)
class SkepticalRun(TaughtRun):
    """Train a student with shallow classifiers, of which one listens to the teacher, see
    :func:`lib.distillation.skeptical.hybrid`.

    ``parent``          the teacher, nasty or not
    ``places``          blocks behind which a shallow classifier stands, from 1
    ``listener``        which of them hears the teacher, from 0
    ``train_examples``  the student's training images; None: all there are
    The shallow classifiers are thrown away: what others build on, and what is compared, is the network itself.
    """

    experiment: ClassVar[str] = "distillation-skeptical"

    model: ResNetConfig = field(default_factory=ResNetConfig)
    places: tuple[int, ...] = (1, 2)
    listener: int = 0
    temperature: float = 4.0
    alpha: float = 0.9
    recipe: Recipe = field(default_factory=Recipe)
    train_examples: int | None = None

    def __post_init__(self) -> None:
        ExitConfig(self.model, self.places)  # refuses places that are none
        require(
            0 <= self.listener < len(self.places), f"listener is {self.listener}: there are {len(self.places)} shallow classifiers, from 0"
        )
        check_settings(self.temperature, self.alpha)

    def images(self, session: Session) -> ImageSet:
        return available_images(self.dataset, self.train_examples, session.device)

    def run(self, session: Session) -> Outcome:
        images, recipe = self.images(session), self.recipe
        teacher = self.parent.load(session)
        seed = own_seed(self)
        torch.manual_seed(seed)
        model = ExitNet(ExitConfig(self.model, self.places)).to(session.device)
        batches = ImageBatches(images.train, images, recipe.batch_size, self.augmentation, seed)
        history = fitted(
            session,
            images,
            model,
            batches,
            skeptical_loss(teacher, self.listener, self.temperature, self.alpha),
            recipe,
            seed=seed,
        )
        session.save_weights(model.backbone)
        metrics, arrays = judged(model, images, recipe)
        metrics |= {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            **sizes(model.backbone, images),
            "term_parameters": measure.parameters(model.exits),
            **against(model, teacher, images, recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), images.provenance())

    def load(self, session: Session) -> nn.Module:
        """The trained network without its shallow classifiers, in evaluation mode; trained first where it is not here."""
        return loaded(self, ResNet(self.model), session)


def judged(model: ExitNet, images: ImageSet, recipe: Recipe) -> tuple[dict[str, float], dict[str, list]]:
    """Accuracies of the network (``accuracy``), of each classifier, the shallowest first (``accuracy_by_exit``), and of
    the mean of their logits (``accuracy_ensemble``), as the authors' code has it, on validation (``val_``) and test images
    (``test_``).
    """
    metrics, arrays = {}, {}
    for name, split in (("val", images.validation), ("test", images.test)):
        logits_KNC = all_logits(model, split, images, recipe.precision)
        labels = split.labels.to(logits_KNC.device)
        arrays[f"{name}_accuracy_by_exit"] = (logits_KNC.argmax(-1) == labels).float().mean(1).tolist()
        metrics[f"{name}_accuracy"] = arrays[f"{name}_accuracy_by_exit"][-1]
        metrics[f"{name}_accuracy_ensemble"] = (logits_KNC.mean(0).argmax(-1) == labels).float().mean().item()
    return metrics, arrays
