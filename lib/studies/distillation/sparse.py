"""Switch's distillation of a mixture of experts into a dense network, ingredient by ingredient, on the mixtures chapter's
transformer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from safetensors.torch import load_model

from lib.data.images import ImageBatches
from lib.measure import cost as measure
from lib.models.vit import ViT
from lib.moe.sparse_to_dense import copy_non_expert_weights, sparse_to_dense_loss
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import scored
from lib.studies.base.images import available_images
from lib.studies.distillation.pairs import APART
from lib.studies.moe.api import ViTRun
from lib.system.checks import require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import fit
from lib.training.losses import classification_loss


@dataclass(frozen=True, kw_only=True)
class SparseToDense(Spec):
    """Distil a trained mixture of experts into its dense counterpart, with the mixture's own data and recipe.

    ``teacher``  a run of the mixtures chapter with experts
    ``weight``   the teacher's share of the loss: 0.25 is Switch's, 1 its teacher alone, 0 the labels alone
    ``inherit``  whether the student begins with the teacher's weights outside the experts
    """

    experiment: ClassVar[str] = "distillation-sparse"

    teacher: ViTRun
    weight: float = 0.25
    inherit: bool = True

    def __post_init__(self) -> None:
        require(self.teacher.moe is not None, "the teacher is dense: give a run with experts")
        require(0 <= self.weight <= 1, f"weight is {self.weight}: the teacher's share of the loss must be in [0, 1]")

    def run(self, session: Session) -> Outcome:
        parent = self.teacher
        images = available_images(parent.dataset, parent.train_examples, session.device)
        geometry = replace(parent, moe=None).geometry(images)
        # Its own first weights and batches: a student with the mixture's weights must not see the very same crops again,
        # nor one with fresh weights begin like the mixture did.
        seed = self.seed + APART
        torch.manual_seed(seed)
        model = ViT(geometry).to(session.device)
        teacher = ViT(replace(geometry, moe=parent.moe)).to(session.device)
        load_model(teacher, str(session.weights(parent)))
        copied = copy_non_expert_weights(model, teacher) if self.inherit else []
        recipe = parent.recipe
        loss = (
            sparse_to_dense_loss(teacher, self.weight, recipe.label_smoothing)
            if self.weight
            else classification_loss(recipe.label_smoothing)
        )

        def evaluate(model: ViT) -> dict[str, float]:
            return scored(model, images.validation, images, recipe, "val")

        batches = ImageBatches(images.train, images, recipe.batch_size, parent.augmentation, seed)
        history = fit(model, batches, loss, recipe, seed=seed, evaluate=evaluate, checkpoint=session.checkpoint, report=session.report)
        states = model.state_dict()
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "train_loss": history.curves["train_loss"][-1],
            "parameters": measure.parameters(model),
            "teacher_parameters": measure.parameters(teacher),
            "copied_share": sum(states[name].numel() for name in copied) / sum(t.numel() for t in states.values()),
            **evaluate(model),
            "test_accuracy": evaluate_classifier(model, images.test, images, precision=recipe.precision)["accuracy"],
        }
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())
