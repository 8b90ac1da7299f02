"""A student, what helps it to learn, and the loss that brings both to :func:`lib.training.loop.fit`.

Every method of this folder that compares a student with a fixed teacher is a *term*: a module called with what both networks
computed (:class:`Features`), the targets and the images' places in the training set, that returns a scalar.  A term may have
weights of its own, which are trained along and thrown away afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.augment import Augmentation, distort, mask_and_mix
from lib.data.images import ImageBatches, ImageSet, Split, _generator, normalise
from lib.distillation.hinton import distillation
from lib.distillation.taps import Features, features
from lib.system.checks import one_of, require

#: What the teacher sees while the student sees a distorted image.
VIEWS = ("same", "independent", "fixed")


class Soft(nn.Module):
    """Hinton's T² · KL(teacher ‖ student) as a term."""

    def __init__(self, temperature: float):
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features, targets: Tensor, index: Tensor | None = None) -> Tensor:
        return distillation(student.logits, teacher.logits, self.temperature)


class Together(nn.Module):
    """A term plus ``share`` times another."""

    def __init__(self, first: nn.Module, second: nn.Module, share: float):
        super().__init__()
        self.first, self.second, self.share = first, second, share

    def forward(self, *seen) -> Tensor:
        return self.first(*seen) + self.share * self.second(*seen)


class Pair(nn.Module):
    """A student ``network`` in training and its term; called with images, it is the student.

    The loss is labels_weight · CE + weight · term.  ``warmup`` is the number of optimiser steps in which the share of the
    term's gradient that is used, the ramp, climbs from 0 to 1; give :meth:`climb` to ``fit`` as ``after_step`` then.
    """

    def __init__(self, network: nn.Module, term: nn.Module, labels_weight: float, weight: float, warmup: int = 0):
        super().__init__()
        require(labels_weight >= 0 and weight >= 0, f"weights are {labels_weight} and {weight}: they must not be negative")
        self.network, self.term = network, term
        self.labels_weight, self.weight, self.warmup = labels_weight, weight, warmup
        self.register_buffer("ramp", torch.tensor(0.0 if warmup else 1.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def climb(self, model: nn.Module, step: int) -> None:
        """Hook after each step of :func:`lib.training.loop.fit`."""
        if step <= self.warmup:
            self.ramp.fill_(step / self.warmup)


def pair_loss(teacher: nn.Module, label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit` of a :class:`Pair`, on batches of :class:`PairBatches` or with plain targets.

    Puts the teacher into evaluation mode; it gets no gradient.  Logs ``train_accuracy``, against the likeliest class of soft
    targets, ``agreement`` (how often both predict the same class), and ``term``, before its weight.
    """
    teacher.eval()

    def loss(model: Pair, inputs: Tensor, targets) -> tuple[Tensor, dict[str, Tensor]]:
        targets, index, *view = targets if isinstance(targets, tuple) else (targets, None)
        with torch.no_grad():
            taught = features(teacher, view[0] if view else inputs)
        seen = features(model.network, inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            taught, seen = taught.float(), seen.float()
            term = model.term(seen, taught, targets, index)
            # The gradient ramps up; the value shown does not, or a term that grows would look like divergence.
            total = model.weight * (model.ramp * term + (1 - model.ramp) * term.detach())
            if model.labels_weight:
                total = total + model.labels_weight * F.cross_entropy(seen.logits, targets, label_smoothing=label_smoothing)
        predicted = seen.logits.detach().argmax(-1)
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        return total, {
            "train_accuracy": (predicted == labels).float().mean(),
            "term": term.detach(),
            "agreement": (predicted == taught.logits.argmax(-1)).float().mean(),
        }

    return loss


class PairBatches(ImageBatches):
    """Batches for a pair: ``(inputs, (targets, index))``, with each image's place in the split.

    view: "same", the teacher sees what the student sees (Beyer et al. 2022, arXiv 2106.05237, call it consistent); or
    ``(inputs, (targets, index, view))`` with the teacher's own view, "independent": other distortions of the same images,
    "fixed": the images as they are.  Raises ValueError for a view of its own with mixed images, which have no other view.
    """

    def __init__(
        self,
        split: Split,
        image_set: ImageSet,
        batch_size: int,
        augmentation: Augmentation = Augmentation(),
        seed: int = 0,
        view: str = "same",
    ):
        one_of("view", view, VIEWS)
        require(view == "same" or not augmentation.mixes, f"mixed images have no view {view!r}: use 'same', or neither mixup nor cutmix")
        super().__init__(split, image_set, batch_size, augmentation, seed)
        self.view = view

    def batch(self, epoch: int, step: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        inputs, targets = super().batch(epoch, step)
        index = self._epoch_order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        if self.view == "same":
            return inputs, (targets, index)
        images = self.split.images[index]
        if self.view == "fixed":
            return inputs, (targets, index, normalise(images, self.image_set))
        generator = _generator("other view", self.seed, epoch, step)
        other = normalise(distort(images, self.augmentation, generator), self.image_set)
        return inputs, (targets, index, mask_and_mix(other, targets, self.image_set.classes, self.augmentation, generator)[0])
