"""The stages of the benchmarks chapter's chains: each is a run that brings one more constraint, and keeps those that are there.

    Remove(0.5)  Prune(0.25)  Quantize(4)  Distil()  Replace(0.1)  Exits((1, 2))

What a stage is, and how its constraint holds, is said in :mod:`lib.studies.benchmarks.stage`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lib.data.images import normalise
from lib.distillation.exits import ExitConfig, ExitNet
from lib.distillation.hinton import hinton_loss
from lib.distillation.self_distillation import self_distillation_loss
from lib.privacy import deployed
from lib.privacy.replace import calibrate, follow, masked_relus, replaced, replacement_loss
from lib.pruning.inner import importance, inner_layers, kept_units, strongest, without
from lib.pruning.trainers import Plan
from lib.quantization.codebook import quantize
from lib.quantization.thin import Thin, masked_as_is
from lib.studies.benchmarks.stage import SETTLE, Setting, Stage, Training, forward_flops, often
from lib.studies.benchmarks.task import TRAINING, Task, build
from lib.studies.privacy.api import CALIBRATION, optimiser
from lib.system.checks import one_of, require
from lib.training.loop import Batches, Recipe
from lib.training.losses import classification_loss

#: Share of a stage's training after which pruning ends.
END = 0.5

#: Temperature of distillation and the teacher's share of the loss, the distillation chapter's usual ones.
TEMPERATURE, ALPHA = 4.0, 0.7

#: The privacy chapter's usual ones: share of the training in which masks of ReLUs move, how far their scores can, how wide the
#: hysteresis is, and the weight of the number of ReLUs.
MOVING, TRAVEL, HYSTERESIS, PENALTY = 0.6, 4.0, 3.0, 100.0

#: Share of a stage's compute that goes into finding out which units matter.
LOOKING = 0.02


@dataclass(frozen=True)
class Prune(Stage):
    """Gradual magnitude pruning of all layers to ``density`` of their weights, compared by LAMP.

    See :mod:`lib.quantization.thin`.

    ``structure``  "unstructured", or "2:4", which keeps a half at most
    """

    density: float
    structure: str = "unstructured"

    def __post_init__(self) -> None:
        one_of("structure", self.structure, ("unstructured", "2:4"))
        self.plan(1)

    def plan(self, steps: int) -> Plan:
        return Plan(density=self.density, end=END, settle=SETTLE, every=often(steps), structure=self.structure, allocation="lamp", floor=4)

    def training(self, model: nn.Module, batches: Batches, recipe: Recipe, setting: Setting) -> Training:
        loss = classification_loss(recipe.label_smoothing)
        trainer = Thin(model, self.plan(recipe.epochs * batches.steps), recipe, batches, loss, setting.seed)
        return Training(trainer.loss, trainer.after_step, trainer.optimizers, trainer.finish)


@dataclass(frozen=True)
class Remove(Stage):
    """Take units out that only their own block sees, the share ``keep`` of each block's stays, and train what is left.

    The units of least importance go at once, see :mod:`lib.pruning.inner`; every step after that is cheaper.
    """

    keep: float

    def __post_init__(self) -> None:
        kept_units(1, self.keep)

    def form(self, model: nn.Module, task: Task, family: str) -> nn.Module:
        kept = {}
        for block, layers in inner_layers(model).items():
            weight = model.get_submodule(layers.writes).weight
            kept[block] = torch.arange(kept_units(len(weight), self.keep), device=weight.device)
        return without(model, kept)

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        batches, device = setting.batches, next(model.parameters()).device
        cost = TRAINING * forward_flops(model, setting.task.shape) * setting.task.recipe(setting.family).batch_size
        looks = max(1, round(LOOKING * setting.flops / cost))
        seen = ([part.to(device) for part in batches.batch(0, step)] for step in range(looks))
        return without(model, strongest(importance(model, seen), self.keep)), looks * cost


@dataclass(frozen=True)
class Quantize(Stage):
    """Give each layer codebooks of 2^``bits`` values, one per section of the ``grid``.

    See :mod:`lib.quantization.codebook`.
    """

    version = 2  # 1 renewed codes twenty times in a run, not after each step

    bits: int
    grid: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        require(1 <= self.bits <= 8, f"bits is {self.bits}: a code must have 1 to 8")

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        return quantize(masked_as_is(model), self.bits, self.grid), 0.0


@dataclass(frozen=True)
class Distil(Stage):
    """Train with the parent's whole network as teacher, by Hinton's loss.

    ``size``  None: the network as it is; a number: a new one with that share of the family's width
    """

    size: float | None = None

    taught = True

    def form(self, model: nn.Module, task: Task, family: str) -> nn.Module:
        return model if self.size is None else build(task.sized(family, self.size), 0).to(next(model.parameters()).device)

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        if self.size is None:
            return model, 0.0
        fresh = build(setting.task.sized(setting.family, self.size), setting.seed)
        return fresh.to(next(model.parameters()).device), 0.0

    def training(self, model: nn.Module, batches: Batches, recipe: Recipe, setting: Setting) -> Training:
        return Training(hinton_loss(setting.teacher(), TEMPERATURE, ALPHA, recipe.label_smoothing))


@dataclass(frozen=True)
class Replace(Stage):
    """Keep the share ``budget`` of the ReLUs and put polynomials in the others' place, with masks that are learnt.

    AutoReP with DaPa, as the privacy chapter has it, with the family's recipe for the weights; see :mod:`lib.privacy.replace`.
    """

    budget: float

    taught = True

    def __post_init__(self) -> None:
        require(0 <= self.budget <= 1, f"budget is {self.budget}: it must be a share of the ReLUs, from 0 to 1")

    def form(self, model: nn.Module, task: Task, family: str) -> nn.Module:
        return deployed.unfilled(model, task.shape)

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        torch.manual_seed(setting.seed)
        images = setting.images
        shown = images.train.images[:CALIBRATION]
        cost = len(shown) * forward_flops(model, setting.task.shape)
        model = replaced(model, setting.task.shape)
        calibrate(model, normalise(shown, images).split(128))
        for layer in masked_relus(model):
            layer.settle()
        return model, cost

    def training(self, model: nn.Module, batches: Batches, recipe: Recipe, setting: Setting) -> Training:
        steps = max(1, round(MOVING * recipe.epochs * batches.steps))
        rate = TRAVEL / steps
        budget = round(self.budget * sum(layer.mask.numel() for layer in masked_relus(model)))
        for layer in masked_relus(model):
            layer.threshold = HYSTERESIS * rate

        def finish(model: nn.Module) -> None:
            if not masked_relus(model)[0].frozen:  # a run that diverged before its masks were cut
                follow(budget, 1)(model, 1)

        return Training(
            replacement_loss(setting.teacher(), budget, PENALTY), follow(budget, steps), [optimiser(model, recipe, rate)], finish
        )

    def end(self, model: nn.Module) -> nn.Module:
        return deployed.deployed(model)


@dataclass(frozen=True)
class Exits(Stage):
    """Classifiers behind the blocks ``places``, which learn from the network's own.

    See :mod:`lib.distillation.self_distillation`; left early, see :mod:`lib.studies.benchmarks.exits`.
    """

    places: tuple[int, ...]

    def __post_init__(self) -> None:
        require(self.places, "places is empty: name the blocks behind which an image may leave, from 1")

    def form(self, model: nn.Module, task: Task, family: str) -> nn.Module:
        net = ExitNet(ExitConfig(model.config, self.places)).to(next(model.parameters()).device)
        net.backbone = model
        return net

    def begin(self, model: nn.Module, setting: Setting) -> tuple[nn.Module, float]:
        torch.manual_seed(setting.seed)
        return self.form(model, setting.task, setting.family), 0.0

    def training(self, model: nn.Module, batches: Batches, recipe: Recipe, setting: Setting) -> Training:
        return Training(self_distillation_loss())
