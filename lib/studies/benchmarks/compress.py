"""Ways to make one trained network smaller or faster: the methods of the benchmarks chapter's first regime.

    Files(32)  Rounded(8)  Codes(4)  Sparse(1 / 4)  SparseCodes(1 / 4, 4)  Channels((16, 64, 64))  LowRank(1 / 2)
    Student((16, 64, 64))  Tuned()

Each says what geometry it leaves, how it begins from the trained network, and what it adds to a run, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from lib.data.images import ImageBatches, ImageSet, normalise
from lib.distillation.hinton import hinton_loss
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig, whiten
from lib.pruning.low_rank import factorised, ranks_for
from lib.pruning.mask import attach
from lib.pruning.narrow import narrowed
from lib.pruning.trainers import Plan
from lib.quantization.codebook import Grid, quantize
from lib.quantization.even import rounded
from lib.quantization.int8 import input_ranges, with_int8_convolutions
from lib.quantization.thin import Thin
from lib.quantization.train import pruning_too, reassigning
from lib.studies.anchors.runs import WHITENED
from lib.studies.benchmarks.stage import SETTLE, Training, often
from lib.studies.benchmarks.stages import ALPHA, END, TEMPERATURE
from lib.system.checks import one_of, require
from lib.training.loop import Recipe
from lib.training.losses import classification_loss

#: The stem is computed and not trained; its few hundred weights are not coded.
STEM = ("stem",)

#: Batches from which it is found out which channels matter, and images on which ranges of activations are measured.
LOOKS, CALIBRATED = 4, 500

#: Sections of a layer that have values of their own where there are few bits, the finest that the file has.
FINE = (16, 4)


class Compression:
    """Base of all methods.  Subclasses are frozen dataclasses of numbers, strings and tuples."""

    #: Whether it is trained, for the budget.
    trained: ClassVar[bool] = True

    #: Whether each step asks a teacher.
    taught: ClassVar[bool] = False

    #: Bits of a number in the file that has no code.
    bits_of_numbers: ClassVar[int] = 16

    def geometry(self, config: WhitenedCNNConfig) -> WhitenedCNNConfig:
        """Return what network is left of one of this geometry."""
        return config

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        """Return the network as its training begins, or as it is if there is none.  ``model`` may be changed."""
        return model

    def training(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, recipe: Recipe, seed: int) -> Training:
        """Return what the method adds to the training.  teacher: the trained network that it began from."""
        return Training(classification_loss(recipe.label_smoothing))

    def as_it_runs(self, model: nn.Module, images: ImageSet) -> nn.Module:
        """Return what computes the answers, given the network as it was read back from its file."""
        return model


@dataclass(frozen=True)
class Files(Compression):
    """The network as it is, in a file of 32 or 16 bits a number."""

    trained = False

    bits: int = 16

    def __post_init__(self) -> None:
        one_of("bits", self.bits, (16, 32))

    @property
    def bits_of_numbers(self) -> int:
        return self.bits


@dataclass(frozen=True)
class Tuned(Compression):
    """Nothing but the training that all other methods have: the control."""


@dataclass(frozen=True)
class Rounded(Compression):
    """Weights rounded to even steps, without training (:mod:`lib.quantization.even`).

    ``activations``  whether convolutions multiply 8-bit integers (:mod:`lib.quantization.int8`); their ranges are measured
                     on training images
    """

    trained = False

    bits: int = 8
    grid: Grid = (1, 1)
    activations: bool = False

    def __post_init__(self) -> None:
        require(not self.activations or (self.bits, self.grid) == (8, (1, 1)), "integer products need 8 bits and one step for each layer")

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        return rounded(model, self.bits, self.grid, STEM)

    def as_it_runs(self, model: nn.Module, images: ImageSet) -> nn.Module:
        if not self.activations:
            return model
        shown = normalise(images.train.images[:CALIBRATED], images).cpu()
        return with_int8_convolutions(model, input_ranges(model.cpu(), shown, STEM))


@dataclass(frozen=True)
class Codes(Compression):
    """Codebooks of 2^``bits`` values, begun by k-means and trained (:mod:`lib.quantization.codebook`)."""

    bits: int
    grid: Grid = FINE

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        return quantize(model, self.bits, self.grid, STEM)

    def training(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, recipe: Recipe, seed: int) -> Training:
        last = max(1, round(SETTLE * recipe.epochs * batches.steps))
        return Training(classification_loss(recipe.label_smoothing), reassigning(1, last))


@dataclass(frozen=True)
class Clustered(Codes):
    """The same codebooks as k-means gives them, without training."""

    trained = False


@dataclass(frozen=True)
class Sparse(Compression):
    """Gradual magnitude pruning to ``density`` of the weights, layers compared by LAMP (:mod:`lib.quantization.thin`).

    ``structure``  "unstructured", or "2:4", which keeps a half at most
    """

    density: float
    structure: str = "unstructured"

    def __post_init__(self) -> None:
        one_of("structure", self.structure, ("unstructured", "2:4"))
        require(0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights in (0, 1]")

    def training(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, recipe: Recipe, seed: int) -> Training:
        plan = Plan(
            density=self.density,
            end=END,
            settle=SETTLE,
            every=often(recipe.epochs * batches.steps),
            structure=self.structure,
            allocation="lamp",
            floor=4,
        )
        trainer = Thin(model, plan, recipe, batches, classification_loss(recipe.label_smoothing), seed)
        return Training(trainer.loss, trainer.after_step, trainer.optimizers, trainer.finish)


@dataclass(frozen=True)
class SparseCodes(Compression):
    """Pruning and codebooks in one run: weights go while codes follow (:func:`lib.quantization.train.pruning_too`)."""

    density: float
    bits: int
    grid: Grid = FINE

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        named = {
            name: torch.ones_like(layer.weight, dtype=torch.bool)
            for name, layer in model.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and name not in STEM
        }
        return quantize(attach(model, named), self.bits, self.grid, STEM)

    def training(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, recipe: Recipe, seed: int) -> Training:
        steps = recipe.epochs * batches.steps
        every = min(often(steps), max(1, round(END * steps)))
        follow = pruning_too(self.density, max(every, round(END * steps)), every, max(every, round(SETTLE * steps)), floor=4)
        return Training(classification_loss(recipe.label_smoothing), follow)


@dataclass(frozen=True)
class Channels(Compression):
    """Whole channels go at once, those of least importance (:mod:`lib.pruning.narrow`); what is left is trained."""

    widths: tuple[int, ...]

    def geometry(self, config: WhitenedCNNConfig) -> WhitenedCNNConfig:
        return replace(config, widths=self.widths)

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        device = model.head.weight.device
        looks = ([part.to(device) for part in batches.batch(0, step)] for step in range(min(LOOKS, batches.steps)))
        return frozen_stem(narrowed(model, self.widths, looks))


@dataclass(frozen=True)
class LowRank(Compression):
    """Each convolution in two factors with ``share`` of its weights (:mod:`lib.pruning.low_rank`)."""

    share: float

    def geometry(self, config: WhitenedCNNConfig) -> WhitenedCNNConfig:
        return replace(config, ranks=ranks_for(config, self.share))

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        return frozen_stem(factorised(model, ranks_for(model.config, self.share)))


@dataclass(frozen=True)
class Student(Compression):
    """A narrower network from new weights, with the trained one as its teacher (Hinton's loss), or with labels alone.

    It begins as every such network does: a stem computed from training images, and convolutions that hand their input on.
    """

    widths: tuple[int, ...]
    taught: bool = True

    def geometry(self, config: WhitenedCNNConfig) -> WhitenedCNNConfig:
        return replace(config, widths=self.widths)

    def begin(self, model: WhitenedCNN, images: ImageSet, batches: ImageBatches, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        student = WhitenedCNN(self.geometry(model.config))
        whiten(student, normalise(images.train.images[:WHITENED], images).cpu())
        return student.to(model.head.weight.device)

    def training(self, model: nn.Module, teacher: nn.Module, batches: ImageBatches, recipe: Recipe, seed: int) -> Training:
        if not self.taught:
            return Training(classification_loss(recipe.label_smoothing))
        return Training(hinton_loss(teacher, TEMPERATURE, ALPHA, recipe.label_smoothing))


def frozen_stem(model: WhitenedCNN) -> WhitenedCNN:
    model.stem.requires_grad_(False)
    return model
