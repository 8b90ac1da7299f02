"""One task for every method: the same images, two families of networks, and the same compute for each run.

    task.whole("vit")                          # the family's dense network, the measure of all others
    task.training_flops("vit")                 # what all methods of that family may spend on training
    batches, recipe = task.phase("vit", images, share=0.5, flops_per_image=f, seed=0)

A method that needs a start, such as the dense network that pruning thins out, pays for it out of the same budget.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from lib.data.augment import Augmentation
from lib.data.images import ImageBatches, ImageSet
from lib.elastic.compute import Paced
from lib.measure import cost as measure
from lib.models.resnet import ResNet, ResNetConfig
from lib.models.vit import ViT, ViTConfig
from lib.studies.base.images import SHAPES, available_images
from lib.studies.base.portions import Portions
from lib.system.checks import one_of, require
from lib.training.loop import Recipe

FAMILIES = ("vit", "cnn")

#: FLOPs of a training step per image over those of a forward pass: backward costs twice as much.
TRAINING = 3.0


@dataclass(frozen=True)
class Task:
    """What all of the benchmarks chapter's networks are trained on, and for how long.

    ``vit``, ``cnn``    the dense network of each family
    ``epochs``          that it is trained for: the budget, in its own epochs
    ``recipe_vit``, ``recipe_cnn``  rates and precision of the family; their epochs are not used
    ``points``          looks at the validation images in one whole training
    """

    dataset: str = "digits"
    train_examples: int | None = None
    vit: ViTConfig = field(default_factory=ViTConfig)
    cnn: ResNetConfig = field(default_factory=ResNetConfig)
    epochs: int = 10
    recipe_vit: Recipe = field(default_factory=Recipe)
    recipe_cnn: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)
    points: int = 6

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.points >= 1, f"epochs {self.epochs} and points {self.points} must be at least 1")

    def images(self, device: torch.device) -> ImageSet:
        """The images; missing data make a Spec unavailable."""
        return available_images(self.dataset, self.train_examples, device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: channels, height, width."""
        side, channels = SHAPES[self.dataset]
        return channels, side, side

    def whole(self, family: str) -> ViTConfig | ResNetConfig:
        """The family's dense network at full size.  Raises ValueError for an unknown family."""
        one_of("family", family, FAMILIES)
        return self.vit if family == "vit" else self.cnn

    def sized(self, family: str, size: float) -> ViTConfig | ResNetConfig:
        """The family's dense network with ``size`` of its width, in (0, 1]; heads keep their features."""
        require(0 < size <= 1, f"size is {size}: it must be a share of the width in (0, 1]")
        config = self.whole(family)
        if isinstance(config, ResNetConfig):
            return replace(config, widths=tuple(max(4, round(size * width)) for width in config.widths))
        head_dim = config.head_dim or config.width // config.heads
        heads = max(1, round(size * config.heads))
        return replace(config, width=heads * head_dim, heads=heads, hidden=max(4, round(size * config.hidden)))

    def recipe(self, family: str) -> Recipe:
        one_of("family", family, FAMILIES)
        return self.recipe_vit if family == "vit" else self.recipe_cnn

    def forward_flops(self, config: ViTConfig | ResNetConfig) -> float:
        """FLOPs of one image's forward pass through an untrained network of this geometry."""
        return forward_flops(config, self.shape)

    def steps(self, images: ImageSet, family: str) -> int:
        """Steps of the dense network's whole training."""
        return self.epochs * self.batches(images, family, 0).steps

    def training_flops(self, images: ImageSet, family: str) -> float:
        """FLOPs of the dense network's whole training: what every method of the family may spend."""
        batch = self.recipe(family).batch_size
        return TRAINING * self.forward_flops(self.whole(family)) * batch * self.steps(images, family)

    def phase(self, images: ImageSet, family: str, share: float, step_flops: float, seed: int, first: int = 0) -> tuple[Paced, Recipe]:
        """Batches and recipe of a run that spends ``share`` of the budget.

        step_flops: of one image of one training step, everything included (a teacher's pass, say).
        first: batches that an earlier phase has seen, which this one goes on after.
        """
        require(0 < share <= 1, f"share is {share}: it must be a part of the budget in (0, 1]")
        recipe = self.recipe(family)
        steps = max(1, round(share * self.training_flops(images, family) / (step_flops * recipe.batch_size)))
        most = max(1, min(steps, round(share * self.points)))
        # As many looks as wanted or a few less, so that they divide the steps.
        epochs = min(range(most, 0, -1), key=lambda looks: abs(looks * round(steps / looks) - steps))
        batches = self.batches(images, family, seed, first)
        return Paced(batches, round(steps / epochs), epochs), replace(recipe, epochs=epochs)

    def batches(self, images: ImageSet, family: str, seed: int, first: int = 0) -> Portions:
        """The training images in the order of ``seed``, from batch number ``first`` on."""
        whole = ImageBatches(images.train, images, self.recipe(family).batch_size, self.augmentation, seed)
        return Portions(whole, whole.steps, first)


def build(config: ViTConfig | ResNetConfig, seed: int) -> nn.Module:
    """The network of that geometry, on the CPU, with the weights that belong to ``seed``."""
    torch.manual_seed(seed)
    return ViT(config) if isinstance(config, ViTConfig) else ResNet(config)


@functools.lru_cache
def forward_flops(config: ViTConfig | ResNetConfig, shape: tuple[int, int, int]) -> float:
    with torch.random.fork_rng(devices=[]):
        return measure.flops(build(config, 0), torch.zeros(1, *shape))
