"""What elastic training is compared with: convolutional networks from scratch, distilled, and pruned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from safetensors.torch import load_model
from torch import Tensor

from lib.data.augment import Augmentation
from lib.data.images import ImageBatches, ImageSet
from lib.distillation.hinton import check_settings, hinton_loss
from lib.measure import cost as measure
from lib.models.cnn import PRESETS, BaselineCNN, CNNConfig, preset
from lib.pruning.channels import prune_to
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import ImageRun, scored, tested
from lib.system.checks import one_of, require
from lib.system.precision import autocast
from lib.training.evaluate import evaluate_classifier
from lib.training.loop import Recipe, fit
from lib.training.losses import Loss, classification_loss

#: A training step costs the forward pass, and about twice that for the gradients of activations and weights.
FORWARDS_PER_STEP = 3

#: Images in the larger of the two batches that inference is timed with.
LARGE_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class CNNRun(ImageRun):
    """Train a plain CNN from scratch, on labels or with a teacher, and look at the test set once, at the end.

    ``size``         see :data:`lib.models.cnn.PRESETS`
    ``teacher``      a run on the same images to distil from; ``temperature`` and ``alpha`` as in
                     :func:`lib.distillation.hinton.hinton_loss`, without meaning when there is none
    """

    experiment: ClassVar[str] = "elastic-cnn"

    size: str = "small"
    teacher: CNNRun | None = None
    temperature: float = 4.0
    alpha: float = 0.7

    def __post_init__(self) -> None:
        one_of("size", self.size, PRESETS)
        check_settings(self.temperature, self.alpha)
        require(
            self.teacher is None or (self.teacher.dataset, self.teacher.train_examples) == (self.dataset, self.train_examples),
            "the teacher must have the student's dataset and train_examples",
        )

    def run(self, session: Session) -> Outcome:
        images = self.images(session)
        torch.manual_seed(self.seed)
        model = BaselineCNN(self.geometry(images)).to(session.device)
        loss = classification_loss(self.recipe.label_smoothing)
        if self.teacher is not None:
            teacher = self.teacher.trained(images, session)
            if self.recipe.channels_last:
                teacher.to(memory_format=torch.channels_last)
            loss = hinton_loss(teacher, self.temperature, self.alpha, self.recipe.label_smoothing)
        return train_and_measure(self, model, loss, images, session, train_flops=self.training_flops(images))

    def geometry(self, images: ImageSet) -> CNNConfig:
        return preset(self.size, channels=images.shape[0], classes=images.classes)

    def trained(self, images: ImageSet, session: Session) -> BaselineCNN:
        """This run's network with its final weights; it is run first when they are missing."""
        weights = session.weights(self)
        model = BaselineCNN(self.geometry(images)).to(session.device)
        load_model(model, str(weights))
        return model

    def training_flops(self, images: ImageSet) -> float:
        """Of the whole recipe, also where training diverged, without augmentation and evaluation.

        With a teacher: also its forward pass per image, and all that its own training took.
        """
        seen, own = images_seen(self.recipe, images), flops_per_image(self.geometry(images), images)
        if self.teacher is None:
            return FORWARDS_PER_STEP * own * seen
        taught = flops_per_image(self.teacher.geometry(images), images)
        return (FORWARDS_PER_STEP * own + taught) * seen + self.teacher.training_flops(images)


@dataclass(frozen=True, kw_only=True)
class PrunedRun(Spec):
    """Remove the weakest channels of a trained CNN, then train what is left; data are those of ``parent``.

    The metric ``train_flops`` is of both runs, ``val_accuracy_before_finetuning`` from between the two.

    ``keep``    the largest fraction of the parent's parameters to keep, see :func:`lib.pruning.channels.prune_to`
    ``recipe``  and ``augmentation``: of the fine-tuning
    """

    experiment: ClassVar[str] = "elastic-pruned"

    parent: CNNRun
    keep: float = 0.5
    recipe: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        require(0 < self.keep <= 1, f"keep is {self.keep}: it must be a fraction of the parameters in (0, 1]")

    def run(self, session: Session) -> Outcome:
        images = self.parent.images(session)
        model = prune_to(self.parent.trained(images, session), self.keep)
        before = evaluate_classifier(model, images.validation, images, precision=self.recipe.precision)
        finetuning = FORWARDS_PER_STEP * flops_per_image(model.config, images) * images_seen(self.recipe, images)
        return train_and_measure(
            self,
            model,
            classification_loss(self.recipe.label_smoothing),
            images,
            session,
            train_flops=finetuning + self.parent.training_flops(images),
            val_accuracy_before_finetuning=before["accuracy"],
        )


def train_and_measure(
    spec: CNNRun | PrunedRun, model: BaselineCNN, loss: Loss, images: ImageSet, session: Session, **known: float
) -> Outcome:
    """Train ``model`` by the recipe, leave its weights for others, and report on it; ``known`` joins the metrics.

    ``train_seconds`` is the time of this training alone, without that of a parent or a teacher.
    """
    recipe = spec.recipe
    batches = ImageBatches(images.train, images, recipe.batch_size, spec.augmentation, spec.seed)
    history = fit(
        model,
        batches,
        loss,
        recipe,
        seed=spec.seed,
        checkpoint=session.checkpoint,
        report=session.report,
        evaluate=lambda model: scored(model, images.validation, images, recipe, "val"),
    )
    metrics = {"diverged": history.diverged, "train_seconds": history.seconds} | known
    metrics |= inference_cost(model, recipe, images)
    metrics |= tested(model, images, recipe)
    session.save_weights(model)
    return Outcome(significant(metrics), significant(history.curves), {"widths": list(model.config.widths)}, images.provenance())


def inference_cost(model: BaselineCNN, recipe: Recipe, images: ImageSet) -> dict[str, float]:
    """Size, work and time of inference; the times are medians, of one image and of a large batch."""
    return {
        "parameters": measure.parameters(model),
        "active_parameters": measure.active_parameters(model),
        "flops_per_image": flops_per_image(model.config, images),
        "file_bytes": measure.file_bytes(model),
        "latency_ms_1": latency_ms(model, recipe, images, batch=1, repeats=30),
        f"latency_ms_{LARGE_BATCH}": latency_ms(model, recipe, images, batch=LARGE_BATCH, repeats=5),
    }


def latency_ms(model: BaselineCNN, recipe: Recipe, images: ImageSet, batch: int, repeats: int) -> float:
    """Median milliseconds for a batch of random images, in the recipe's precision and memory format."""
    inputs = torch.randn(batch, *images.shape, device=images.train.images.device)
    if recipe.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def infer() -> Tensor:
        with autocast(inputs.device, recipe.precision):
            return model(inputs)

    return measure.latency(infer, device=inputs.device, warmup=2, repeats=repeats).p50_ms


def flops_per_image(config: CNNConfig, images: ImageSet) -> int:
    """FLOPs of one forward pass, a multiply-add counting 2; nothing is computed for it."""
    with torch.device("meta"):
        return measure.flops(BaselineCNN(config), torch.empty(1, *images.shape))


def images_seen(recipe: Recipe, images: ImageSet) -> int:
    """Training images in all epochs of ``recipe``, counted as often as they are shown."""
    batch = min(recipe.batch_size, len(images.train))
    return recipe.epochs * (len(images.train) // batch) * batch
