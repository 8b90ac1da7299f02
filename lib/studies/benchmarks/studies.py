"""Benchmarks: what is run, and at which size.

The first regime, what to do with a network that is trained already, is in :mod:`lib.studies.benchmarks.practice_sizes`.  In
the second everything is a :class:`StartRun`, a network trained from new weights by one method, or a :class:`ChainRun`, one that goes
on from there in stages.  All runs of a family spend the same compute on training, but for the halves that compression
starts from and the cut that no stage follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lib.data.augment import Augmentation
from lib.data.images import check_name
from lib.growth.depth import Deepen
from lib.growth.width import Noise, Widen
from lib.models.resnet import ResNetConfig
from lib.models.vit import ViTConfig
from lib.runs.spec import Spec
from lib.studies.anchors.recipes import recipes
from lib.studies.base.images import LIGHT, SHAPES, other_shape
from lib.studies.base.parameters import ChapterParameters, given
from lib.studies.base.seeds import with_seed
from lib.studies.benchmarks.axes import AXES, Geometry
from lib.studies.benchmarks.chain import ChainRun
from lib.studies.benchmarks.machine import TimesRun, family_of
from lib.studies.benchmarks.methods import Averaged, Dense, Elastic, Grown, Switch
from lib.studies.benchmarks.practice_sizes import practice, practice_studies
from lib.studies.benchmarks.scaling import ScalingRun
from lib.studies.benchmarks.stages import Distil, Exits, Prune, Quantize, Remove, Replace
from lib.studies.benchmarks.start import StartRun
from lib.studies.benchmarks.task import FAMILIES, Task
from lib.system.checks import require
from lib.training.loop import Recipe

#: Shares of the weights that stay, and bits that shorten numbers of 16 as much.
SPARSE, BITS = (1 / 4, 1 / 8), (4, 2)


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None  # of the dense networks: the budget of all
    experts: int = 8  # of the mixtures
    bits: int = 4  # per weight in the chains of several stages
    density: float = 0.25  # share of the weights that stays in them

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            check_name(self.dataset)
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(self.experts >= 2, f"experts is {self.experts}: a mixture needs at least 2")
        require(1 <= self.bits <= 8, f"bits is {self.bits}: a code must have 1 to 8")
        require(0 < self.density <= 1, f"density is {self.density}: it must be a share of the weights in (0, 1]")


@dataclass(frozen=True)
class Timing:
    """How :class:`TimesRun` measures: its fields of these names."""

    precision: str = "fp32"
    rounds: int = 15
    singles: int = 32


@dataclass(frozen=True)
class Scale:
    """``task``; seeds of the comparison and, ``few``, of the orders; how networks are timed, and what grows.

    ``widths``: of the dense networks that every method must beat, as shares of the whole network's.  ``chained``: of how many
    stages the chains are whose orders are compared.
    """

    task: Task
    seeds: int
    few: int
    timing: Timing = field(default_factory=Timing)
    growing: tuple[ScalingRun, ...] = field(default_factory=lambda: tuple(ScalingRun(axis=axis) for axis in AXES))
    widths: tuple[float, ...] = (1.0, 2 / 3, 1 / 2, 1 / 3)
    chained: tuple[int, ...] = (0, 1, 2, 3)


def small_axes() -> tuple[ScalingRun, ...]:
    """Two sizes on each axis, twice."""
    sizes = {"width": (16, 32), "depth": (1, 2), "sequence": (16, 32), "experts": (1, 4), "sparsity": (0.0, 0.9)}
    return tuple(
        ScalingRun(axis=axis, values=values, geometry=Geometry(2, 16, 16, 32, 2), rounds=2, square=64, copied=(0.1, 1.0))
        for axis, values in sizes.items()
    )


def large_axes() -> tuple[ScalingRun, ...]:
    """Sizes that fill a large GPU."""
    sizes = {"width": (256, 512, 1024, 2048, 4096), "sequence": (256, 512, 1024, 2048, 4096)}
    return tuple(
        ScalingRun(
            axis=axis,
            values=sizes.get(axis),
            geometry=Geometry(64, 256, 1024, 4096, 16),
            precision="bf16",
            square=8192,
            copied=(512.0, 512.0),
        )
        for axis in AXES
    )


SIZES = {
    "smoke": Scale(
        Task(
            train_examples=150,
            epochs=1,
            points=2,
            vit=ViTConfig(image_size=8, channels=1, patch=4, width=24, depth=2, heads=2, hidden=32),
            cnn=ResNetConfig(widths=(4, 8), blocks=(1, 1), channels=1),
            recipe_vit=Recipe(batch_size=50, lr=3e-3),
            recipe_cnn=Recipe(batch_size=50, lr=1e-2),
        ),
        1,
        1,
        Timing(rounds=2, singles=2),
        small_axes(),
    ),
    "laptop": Scale(
        Task(
            epochs=10,
            vit=ViTConfig(image_size=8, channels=1, patch=2, width=48, depth=2, heads=6, hidden=96),
            cnn=ResNetConfig(widths=(6, 12, 24), channels=1),
            recipe_vit=Recipe(batch_size=128, lr=5e-3),
            recipe_cnn=Recipe(batch_size=128, lr=1e-2),
        ),
        1,
        2,
        Timing(rounds=9, singles=16),
        chained=(0, 3),
    ),
    "cpu": Scale(
        Task(
            "cifar10",
            15_000,
            epochs=4,
            vit=ViTConfig(patch=8, width=48, depth=4, heads=6, hidden=192),
            cnn=ResNetConfig(widths=(16, 32, 64), stride=2),
            recipe_vit=Recipe(batch_size=128, lr=2e-3),
            recipe_cnn=Recipe(batch_size=128, lr=1e-2),
            augmentation=Augmentation(flip=True),
        ),
        3,
        3,
        widths=(1.0, 2 / 3, 1 / 2),
        chained=(0, 3),
    ),
    "gpu": Scale(
        Task(
            "cifar10",
            None,
            epochs=16,
            vit=ViTConfig(patch=4, width=192, depth=6, heads=6, hidden=768),
            cnn=ResNetConfig(widths=(64, 128, 256), blocks=(1, 1, 1)),
            recipe_vit=Recipe(batch_size=512, lr=2e-3, precision="bf16"),
            recipe_cnn=Recipe(batch_size=512, lr=1e-2, precision="bf16", channels_last=True),
            augmentation=LIGHT,
        ),
        3,
        3,
        Timing("bf16", 30),
        large_axes(),
        chained=(0, 3),
    ),
}


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    task, seeds, few = size.task, range(size.seeds), range(size.few)
    elastic = StartRun(task=task, method=Elastic())
    found = {
        "anchors": [replace(run, seed=seed) for run in recipes(parameters.scale).values() for seed in range(size.seeds)],
        "dense": seeded(
            (StartRun(task=task, family=family, method=Dense(size=width)) for family in FAMILIES for width in size.widths), seeds
        )
        + seeded((StartRun(task=task, family=family, method=Dense(inner=0.5)) for family in FAMILIES), seeds),
        "starts": seeded(
            [
                StartRun(task=task, method=Switch(experts=parameters.experts)),
                StartRun(task=task, method=Averaged(experts=parameters.experts)),
                StartRun(task=task, method=Grown((Deepen(task.vit.depth, "stack"),))),
                StartRun(task=task, method=Grown((Widen(2, Noise()),))),
                *(ChainRun(parent=elastic, cut=cut) for cut in ("whole", "middle", "small")),
            ],
            seeds,
        ),
        "compressed": seeded(
            (
                ChainRun(parent=half(task, family), stages=stages)
                for family in FAMILIES
                for stages in single_stages(task, family, parameters)
            ),
            seeds,
        ),
        "halves": seeded((half(task, family) for family in FAMILIES), seeds),
        "orders": seeded(
            (ChainRun(parent=replace(elastic, share=0.5), cut="small", stages=stages) for stages in chains(parameters, size.chained)), few
        ),
    }
    trials = [spec for name in ("dense", "starts", "compressed") for spec in found[name] if spec.seed == 0]
    return (
        found
        | {
            "times": [
                TimesRun(trials=tuple(spec for spec in trials if family_of(spec) == family), **vars(size.timing)) for family in FAMILIES
            ],
            "scaling": list(size.growing),
        }
        | practice_studies(practice(parameters.scale, parameters.seeds))
    )


def half(task: Task, family: str) -> StartRun:
    """The dense network, trained with half of the budget: where compression begins."""
    return StartRun(task=task, family=family, share=0.5)


def single_stages(task: Task, family: str, parameters: Parameters) -> list[tuple]:
    """Compression by one method, and by pruning and quantizing, after half of the budget."""
    found = [(Prune(density),) for density in SPARSE] + [(Prune(0.5, "2:4"),), (Remove(0.5),)]
    found += [(Quantize(bits),) for bits in BITS] + [(Distil(0.5),), (Prune(SPARSE[0]), Quantize(BITS[0]))]
    if family == "cnn":
        blocks = sum(task.cnn.blocks)
        found += [(Replace(0.1),), (Exits(tuple(range(1, blocks))),)]
    return found


def chains(parameters: Parameters, counts: Iterable[int]) -> list[tuple]:
    """Every sequence of so many of pruning, quantizing and distilling, none twice."""
    stages = Prune(parameters.density), Quantize(parameters.bits), Distil()
    return [order for count in counts for order in itertools.permutations(stages, count)]


def seeded(specs: Iterable[Spec], seeds: Iterable[int]) -> list[Spec]:
    return [with_seed(spec, seed) for spec in specs for seed in seeds]


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    task = size.task
    if parameters.dataset not in (None, task.dataset):
        task = on_other_data(task, parameters.dataset)
    task = replace(task, **given(epochs=parameters.epochs))
    return replace(size, task=task, **given(seeds=parameters.seeds, few=parameters.seeds))


def on_other_data(task: Task, dataset: str) -> Task:
    """The task on other images: networks for their shape and classes, about as many patches of another size."""
    side, channels = SHAPES[dataset]
    classes = 100 if dataset == "cifar100" else 10
    patch = min(
        (size for size in range(1, side + 1) if side % size == 0), key=lambda size: abs(size * task.vit.image_size - side * task.vit.patch)
    )
    return replace(
        task,
        dataset=dataset,
        vit=replace(task.vit, image_size=side, channels=channels, classes=classes, patch=patch),
        cnn=replace(task.cnn, channels=channels, classes=classes),
        **other_shape(dataset, task.dataset),
    )
