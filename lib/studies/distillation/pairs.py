"""A network trained from labels, and a student trained with such a network's help: the distillation chapter's main Specs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from lib.data.augment import Augmentation
from lib.data.images import ImageSet, Split, normalise
from lib.distillation.pair import VIEWS, PairBatches, pair_loss
from lib.measure import cost as measure
from lib.models.cnn import BaselineCNN, CNNConfig
from lib.models.resnet import ResNet, ResNetConfig
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.image_run import LabelRun, fitted, tested
from lib.studies.base.images import available_images
from lib.studies.base.weights import loaded
from lib.studies.distillation.methods import METHODS, Setting
from lib.system.checks import one_of, require
from lib.system.precision import autocast
from lib.training.loop import Recipe

Config = CNNConfig | ResNetConfig

#: Between the seeds of a teacher and of a student of the same geometry.
APART = 1000


def network(config: Config) -> nn.Module:
    """A fresh network of this geometry."""
    return BaselineCNN(config) if isinstance(config, CNNConfig) else ResNet(config)


@dataclass(frozen=True, kw_only=True)
class PlainRun(LabelRun):
    """Train a network from labels alone: a teacher, or the baseline that a student has to beat."""

    experiment: ClassVar[str] = "distillation-plain"

    model: Config = field(default_factory=ResNetConfig)

    def network(self) -> nn.Module:
        return network(self.model)

    def measured(self, model: nn.Module, images: ImageSet) -> dict[str, int]:
        return sizes(model, images)


@dataclass(frozen=True, kw_only=True)
class TaughtRun(Spec):
    """Learn from ``parent``, a Spec that has ``load``, ``images``, ``dataset`` and ``augmentation``, such as :class:`PlainRun`: by its
    images and its distortions, unless a subclass says otherwise.
    """

    parent: Spec

    @property
    def dataset(self) -> str:
        return self.parent.dataset

    @property
    def augmentation(self) -> Augmentation:
        return distortion(self.parent)

    def images(self, session: Session) -> ImageSet:
        return self.parent.images(session)


@dataclass(frozen=True, kw_only=True)
class PairRun(TaughtRun):
    """Train a student with the help of a trained network.

    ``parent``          the teacher, whose own images need not be the student's
    ``model``           geometry of the student
    ``method``          a name in :data:`lib.studies.distillation.methods.METHODS`
    ``temperature``     of the softmax; None: the method's usual one
    ``alpha``           the teacher's share of the loss, for methods that share it; None: the method's usual one
    ``weight``          of the method's term, for methods that add it to the labels' loss; None: the usual one
    ``view``            what the teacher sees, see :class:`lib.distillation.pair.PairBatches`
    ``train_examples``  the student's training images; None: all there are
    ``augmentation``    None: the teacher's
    """

    experiment: ClassVar[str] = "distillation-pair"

    model: Config = field(default_factory=ResNetConfig)
    method: str = "hinton"
    temperature: float | None = None
    alpha: float | None = None
    weight: float | None = None
    view: str = "same"
    recipe: Recipe = field(default_factory=Recipe)
    train_examples: int | None = None
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        one_of("view", self.view, VIEWS)
        method = METHODS[self.method]
        require(self.temperature is None or method.temperature, f"{self.method} has no temperature: leave it at None")
        require(self.temperature is None or self.temperature > 0, f"temperature is {self.temperature}: it must be above 0")
        require(
            self.alpha is None or method.shares,
            f"{self.method} does not share the loss with the labels: leave alpha at None, and set weight",
        )
        require(self.alpha is None or 0 <= self.alpha <= 1, f"alpha is {self.alpha}: it must be in [0, 1], the teacher's share of the loss")
        require(
            self.weight is None or not method.shares, f"{self.method} shares the loss with the labels: leave weight at None, and set alpha"
        )
        require(self.weight is None or self.weight >= 0, f"weight is {self.weight}: it must not be negative")
        require(
            self.method != "decoupled" or not self.distortion.mixes,
            "decoupled distillation needs each image's class: leave mixup and cutmix at 0",
        )

    @property
    def distortion(self) -> Augmentation:
        return distortion(self.parent) if self.augmentation is None else self.augmentation

    def images(self, session: Session) -> ImageSet:
        return available_images(self.dataset, self.train_examples, session.device)

    def run(self, session: Session) -> Outcome:
        images, recipe = self.images(session), self.recipe
        teacher = self.parent.load(session)
        seed = own_seed(self)
        torch.manual_seed(seed)
        student = network(self.model).to(session.device)
        batches = PairBatches(images.train, images, recipe.batch_size, self.distortion, seed, self.view)
        pair = METHODS[self.method].pair(
            student,
            teacher,
            Setting(self.temperature, self.alpha, self.weight, examples=len(images.train), steps=recipe.epochs * batches.steps),
        )
        pair.to(session.device)
        history = fitted(
            session,
            images,
            pair,
            batches,
            pair_loss(teacher, recipe.label_smoothing),
            recipe,
            seed=seed,
            after_step=pair.climb,
        )
        session.save_weights(student)
        metrics = {
            "diverged": history.diverged,
            "train_seconds": history.seconds,
            **sizes(student, images),
            "term_parameters": measure.parameters(pair.term),
            **against(student, teacher, images, recipe),
            **tested(student, images, recipe),
        }
        return Outcome(significant(metrics), significant(history.curves), data=images.provenance())

    def load(self, session: Session) -> nn.Module:
        """The trained student, in evaluation mode; trained first where it is not here."""
        return loaded(self, network(self.model), session)


def own_seed(spec: Spec) -> int:
    """The seed of a run's first weights and of its batches.

    That of the Spec, but for a network of its teacher's geometry: with the teacher's own seed it would begin as the same
    network and see the same batches, which would make the two more alike than any two networks.
    """
    parent = getattr(spec, "parent", None)
    return own_seed(parent) + APART if parent is not None and geometry(parent) == geometry(spec) else spec.seed


def geometry(spec: Spec) -> Config:
    """Of the network that a run trains; a nasty teacher's is its parent's where it has none."""
    return geometry(spec.parent) if spec.model is None else spec.model


def distortion(spec: Spec) -> Augmentation:
    """What a run does to its training images, inherited from its teacher or not."""
    return spec.distortion if isinstance(spec, PairRun) else spec.augmentation


def sizes(model: nn.Module, images: ImageSet) -> dict[str, int]:
    """Parameters, and floating-point operations of one image's forward pass."""
    example = torch.zeros(1, *images.shape, device=next(model.parameters()).device)
    return {"parameters": measure.parameters(model), "flops": measure.flops(model, example)}


@torch.no_grad()
def answers(model: nn.Module, split: Split, images: ImageSet, recipe: Recipe, batch_size: int = 1000) -> torch.Tensor:
    """Logits of a split's images [N, classes], fp32."""
    device, found = next(model.parameters()).device, []
    for part in split.images.split(batch_size):
        with autocast(device, recipe.precision):
            found.append(model(normalise(part.to(device), images)).float())
    return torch.cat(found)


def against(student: nn.Module, teacher: nn.Module, images: ImageSet, recipe: Recipe) -> dict[str, float]:
    """On the test images: the teacher's accuracy, how often both predict the same class, and KL(teacher ‖ student) in nats.

    The student's precision serves both.
    """
    own, other = (answers(model, images.test, images, recipe) for model in (student, teacher))
    divergence = nn.functional.kl_div(own.log_softmax(-1), other.log_softmax(-1), reduction="batchmean", log_target=True)
    labels = images.test.labels.to(other.device)
    return {
        "teacher_accuracy": (other.argmax(-1) == labels).float().mean().item(),
        "test_agreement": (own.argmax(-1) == other.argmax(-1)).float().mean().item(),
        "test_divergence": divergence.item(),
    }
