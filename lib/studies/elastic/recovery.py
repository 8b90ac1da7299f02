"""What a little training after the cut brings back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lib.data.images import ImageBatches
from lib.elastic.config import PRESETS, presets
from lib.elastic.extract import extract
from lib.elastic.recovery import WHAT, recovering
from lib.moe.losses import moe_classification_loss
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.elastic.vit import ElasticRun
from lib.system.checks import one_of
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import classification_loss


@dataclass(frozen=True, kw_only=True)
class RecoveryRun(Spec):
    """Cut one of the preset sizes out of a trained network and train it on: nothing, its routers, or everything."""

    experiment: ClassVar[str] = "elastic-recovery"

    parent: ElasticRun
    size: str = "small"
    what: str = "nothing"
    recipe: Recipe

    def __post_init__(self) -> None:
        one_of("what", self.what, WHAT)
        one_of("size", self.size, PRESETS)

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        whole = self.parent.network(images, session)
        size = presets(self.parent.offered or self.parent.space)[self.size]
        torch.manual_seed(self.seed)
        model = extract(whole.use(size))
        curves, training = {}, {"diverged": False, "train_seconds": 0.0}
        if self.what != "nothing":
            batches = ImageBatches(images.train, images, self.recipe.batch_size, self.parent.augmentation, self.seed)
            loss_of = moe_classification_loss if size.experts else classification_loss
            loss = loss_of(self.recipe.label_smoothing)
            with recovering(model, self.what):
                history = fit(model, batches, loss, self.recipe, seed=self.seed, checkpoint=session.checkpoint, report=session.report)
            curves = {"train_loss": significant(history.curves["train_loss"])}
            training = {"diverged": history.diverged, "train_seconds": significant(history.seconds)}
        held, test = (
            evaluate_classifier(model, split, images, precision=self.recipe.precision)["accuracy"]
            for split in (images.validation, images.test)
        )
        return Outcome(
            training
            | {
                "val_accuracy": held,
                "test_accuracy": test,
                "trained_parameters": recovered_parameters(model, self.what),
                "size_label": size.label,
            },
            curves,
            data=images.provenance(),
        )


def recovered_parameters(model: torch.nn.Module, what: str) -> int:
    with recovering(model, what):
        return sum(p.numel() for p in model.parameters() if p.requires_grad)
