"""Distilling into vision transformers: DeiT's token, hard or soft labels, a convolutional teacher or another transformer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from lib.data.images import ImageBatches, ImageSet, normalise
from lib.distillation.deit import hard_loss, soft_loss
from lib.measure import cost as measure
from lib.models.distilled_vit import DistilledViT, token_similarity
from lib.models.vit import ViT, ViTConfig
from lib.runs.results import Outcome, significant
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, scored
from lib.studies.base.weights import loaded
from lib.studies.distillation.pairs import APART, PlainRun
from lib.system.checks import one_of, require
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import fit
from lib.training.losses import classification_loss

#: What a student learns from its teacher.  "soft, numel" is soft distillation with the released code's normalisation.
KINDS = ("hard", "soft", "soft, numel")

#: Held-out images that tokens are compared on, and that teacher and student are compared on.
PROBE_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class DeiTRun(ImageRun):
    """Train a vision transformer with a teacher or without, and look at the test set once at the end.

    ``teacher``  a trained network of other fields' data: a plain residual network (a :class:`PlainRun`) or a
                 transformer (another run of this kind); None: labels alone
    ``kind``     see :data:`KINDS`; without meaning where there is no teacher
    ``token``    whether a distillation token learns from the teacher; else the one head learns both, as in usual
                 distillation
    ``weight``, ``temperature``   λ and τ of soft distillation
    """

    experiment: ClassVar[str] = "distillation-deit"

    model: ViTConfig = field(default_factory=ViTConfig)
    teacher: PlainRun | DeiTRun | None = None
    kind: str = "hard"
    token: bool = True
    weight: float = 0.1
    temperature: float = 3.0

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        require(0 <= self.weight <= 1, f"weight is {self.weight}: λ must be in [0, 1]")
        require(self.temperature > 0, f"temperature is {self.temperature}: it must be above 0")
        require(self.teacher is not None or not self.token, "a distillation token needs a teacher: give one, or token=False")
        require(
            self.teacher is None or (self.teacher.dataset, self.teacher.train_examples) == (self.dataset, self.train_examples),
            "the teacher must have the student's dataset and train_examples",
        )

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        # A transformer of its teacher's geometry must not begin as the same network and see the same batches.
        seed = self.seed + APART if getattr(self.teacher, "model", None) == self.model else self.seed
        torch.manual_seed(seed)
        model = self.network().to(session.device)
        teacher = self.teacher.load(session) if self.teacher else None
        batches = ImageBatches(images.train, images, self.recipe.batch_size, self.augmentation, seed)
        history = fit(
            model,
            batches,
            self.loss(teacher),
            self.recipe,
            seed=seed,
            evaluate=lambda model: scored(model, images.validation, images, self.recipe, "val"),
            checkpoint=session.checkpoint,
            report=session.report,
        )
        session.save_weights(model)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            "parameters": measure.parameters(model),
            "train_loss": history.curves["train_loss"][-1],
            **scored(model, images.validation, images, self.recipe, "val"),
            "test_accuracy": self.accuracy(model, images),
        }
        arrays: dict[str, list] = {}
        probe = normalise(images.validation.images[:PROBE_IMAGES], images)
        if self.token:
            metrics |= {
                "test_accuracy_class": self.accuracy(Head(model, 0), images),
                "test_accuracy_token": self.accuracy(Head(model, 1), images),
            }
            arrays["similarity_by_layer"] = token_similarity(model, probe)
        if teacher is not None:
            metrics |= {"teacher_test_accuracy": self.accuracy(teacher, images), "agreement": agreement(model, teacher, probe)}
        return Outcome(significant(metrics), significant(history.curves), significant(arrays), images.provenance())

    def network(self) -> ViT:
        return DistilledViT(self.model) if self.token else ViT(self.model)

    def loss(self, teacher: nn.Module | None):
        """Labels alone, or DeiT's loss; a network without the token passes its logits twice."""
        smoothing = self.recipe.label_smoothing
        if teacher is None:
            return classification_loss(smoothing)

        def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.no_grad():
                taught = teacher(inputs).float()
            logits = model.both(inputs) if self.token else (model(inputs),) * 2
            by_class, by_token = (part.float() for part in logits)
            if self.kind == "hard":
                total = hard_loss(by_class, by_token, taught, targets, smoothing)
            else:
                total = soft_loss(
                    by_class,
                    by_token,
                    taught,
                    targets,
                    self.weight,
                    self.temperature,
                    "numel" if self.kind == "soft, numel" else "batchmean",
                    smoothing,
                )
            return total, {"agreement": (by_token.detach().argmax(-1) == taught.argmax(-1)).float().mean()}

        return loss

    def accuracy(self, model: nn.Module, images: ImageSet) -> float:
        return evaluate_classifier(model, images.test, images, precision=self.recipe.precision)["accuracy"]

    def load(self, session: Session) -> ViT:
        """The trained network, in evaluation mode; trained first where it is not here."""
        return loaded(self, self.network(), session)


class Head(nn.Module):
    """One of the two heads of a network with a distillation token: 0 the class token's, 1 the distillation token's."""

    def __init__(self, model: DistilledViT, which: int):
        super().__init__()
        self.model, self.which = model, which

    def forward(self, images: Tensor) -> Tensor:
        return self.model.both(images)[self.which]


@torch.no_grad()
def agreement(student: nn.Module, teacher: nn.Module, inputs: Tensor) -> float:
    """How often both predict the same class."""
    return (student(inputs).argmax(-1) == teacher(inputs).argmax(-1)).float().mean().item()
