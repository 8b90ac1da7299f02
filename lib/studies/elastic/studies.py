"""Elastic training: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lib.data.augment import Augmentation
from lib.data.images import check_name
from lib.elastic.config import PRESETS, Space, presets
from lib.elastic.recovery import WHAT
from lib.elastic.samplers import ERNIE, CoActivation, LayerwiseK, Nested, Progressive, Sampler, Sandwich, Uniform, Weighted
from lib.elastic.subnet import Policy
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.studies.anchors.recipes import vit_recipe
from lib.studies.base.images import SHAPES, other_shape
from lib.studies.base.parameters import ChapterParameters, given
from lib.studies.elastic.baselines import CNNRun, PrunedRun
from lib.studies.elastic.cost import ExtractionRun, SamplerCost
from lib.studies.elastic.dynamic import DynamicRun
from lib.studies.elastic.mixtures import MixNMatchRun
from lib.studies.elastic.recovery import RecoveryRun
from lib.studies.elastic.search import SubnetSearchRun
from lib.studies.elastic.subsets import SubsetRun
from lib.studies.elastic.vit import ElasticRun
from lib.system.checks import one_of
from lib.training.loop import Recipe

#: What a reader can run on its own, as the student project's command line could; "visualize" replays and runs nothing.
STAGES = {
    "elastic": ("samplers", "sandwich", "twins", "axes", "sparsity", "gates", "subsets", "recovery", "matformer", "mixtures", "dynamic"),
    "baselines": ("baselines", "twins"),
    "benchmark": ("extraction", "pace", "search"),
}


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    stage: str = "all"  # all | elastic | baselines | benchmark | visualize
    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None
    batch_size: int | None = None
    num_experts: int | None = None  # of the whole network; the choices below it follow

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("stage", self.stage, ("all", *STAGES, "visualize"))
        for name, least in {"epochs": 1, "batch_size": 1, "num_experts": 4}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.dataset is not None:
            check_name(self.dataset)

    @property
    def replay_only(self) -> bool:
        return self.stage == "visualize"


@dataclass(frozen=True)
class Geometry:
    """The largest network: its layers, heads, expert width, experts; the axes' choices are fractions of these."""

    depth: int
    heads: int
    hidden: int
    experts: int
    k: int = 2


@dataclass(frozen=True)
class Scale:
    """What a scale chooses.

    ``seeds``        for the comparison of samplers; ``topic_seeds`` for the other studies
    """

    base: dict[str, Any]  # fields of ElasticRun: data, width, patches, recipe, augmentation
    geometry: Geometry
    seeds: int
    topic_seeds: int
    search: dict[str, Any]  # fields of SubnetSearchRun
    rounds: int  # of timings
    pace: dict[str, int]  # fields of SamplerCost: how long it is timed
    cnn: Recipe  # of the convolutional baselines


STRONG = Augmentation(crop=4, flip=True, randaugment=(2, 9), random_erasing=0.25)


def spaces(geometry: Geometry) -> dict[str, Space]:
    """The spaces of the studies: three axes as ERNIE has them, each alone, k alone and wider, widths alone, all five."""
    depth = tuple(range(-(-geometry.depth // 2), geometry.depth + 1))
    heads, hidden, k = geometry.heads, geometry.hidden, geometry.k
    experts = tuple(sorted({max(k, geometry.experts * part // 4) for part in (1, 2, 3, 4)}))
    whole = Space((geometry.depth,), (heads,), (hidden,), (geometry.experts,), (k,))
    widths = tuple(k * hidden // part for part in (8, 4, 2, 1))
    return {
        "whole": whole,
        "three": replace(whole, depth=depth, experts=experts, k=tuple(range(1, k + 1))),
        "depth": replace(whole, depth=depth),
        "experts": replace(whole, experts=experts),
        "k": replace(whole, k=tuple(range(1, k + 1))),
        "wide k": replace(whole, k=tuple(range(1, 2 * k + 1))),
        "five": Space(
            depth,
            tuple(sorted({max(1, heads // 3), max(1, 2 * heads // 3), heads})),
            (hidden // 4, hidden // 2, hidden),
            experts,
            tuple(range(1, k + 1)),
        ),
        "widths": Space((geometry.depth,), (heads,), widths),
    }


#: Router and gate of all mixtures here; the study of gates compares others.
MIXTURE = MoEConfig(single_gate="share")

#: The size on which sub-networks are compared with twins, fine-tuned and timed.
SMALL = "small"

SIZES = {
    "smoke": Scale(
        dict(dataset="digits", train_examples=128, d_model=24, patch=2, recipe=Recipe(epochs=1, batch_size=64, lr=2e-3)),
        Geometry(depth=2, heads=3, hidden=24, experts=4),
        seeds=1,
        topic_seeds=1,
        search=dict(samples=16, validation_images=64, check_images=64, population=8, generations=3, members=4, rounds=2),
        rounds=3,
        pace=dict(steps=2, rounds=2),
        cnn=Recipe(epochs=1, batch_size=64, lr=1e-2, channels_last=True),
    ),
    "laptop": Scale(
        dict(dataset="digits", d_model=36, patch=2, recipe=Recipe(epochs=4, batch_size=64, lr=5e-3)),
        Geometry(depth=3, heads=3, hidden=36, experts=8),
        seeds=2,
        topic_seeds=1,
        search=dict(samples=48, validation_images=200, population=24, generations=15, members=8, rounds=3, latency_batch=32),
        rounds=7,
        pace=dict(steps=3, rounds=3),
        cnn=Recipe(epochs=4, batch_size=64, lr=1e-2, channels_last=True),
    ),
    "cpu": Scale(
        dict(
            dataset="cifar10",
            d_model=64,
            patch=8,
            stem="strided",
            # All images as they are, six times: four minutes of one core, and twice the epochs bring less than a point.  Mirrored and
            # shifted images would take a network further, in hours for each, and no shorter training of it is near its end.
            recipe=vit_recipe(6, batch_size=250),
        ),
        Geometry(depth=6, heads=4, hidden=64, experts=8),
        seeds=3,
        topic_seeds=3,
        search=dict(),
        rounds=15,
        pace=dict(),
        cnn=Recipe(epochs=4, batch_size=128, lr=1e-2, precision="bf16", channels_last=True),
    ),
    "gpu": Scale(
        dict(
            dataset="cifar10",
            d_model=192,
            patch=4,
            stem="conv",
            recipe=vit_recipe(14, batch_size=1024),
            augmentation=STRONG,
        ),
        Geometry(depth=6, heads=6, hidden=384, experts=16),
        seeds=3,
        topic_seeds=3,
        search=dict(),
        rounds=50,
        pace=dict(),
        cnn=Recipe(epochs=40, batch_size=512, lr=1e-2, precision="bf16", channels_last=True),
    ),
}


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    size = sized(parameters)
    every, topic = range(size.seeds), range(size.topic_seeds)
    space = spaces(size.geometry)
    rigid = ElasticRun(space=space["whole"], offered=space["three"], moe=MIXTURE, **size.base)
    recipe = rigid.recipe

    def elastic(sampler: Sampler, over: str = "three", **changes) -> ElasticRun:
        return replace(rigid, space=space[over], offered=None, sampler=sampler, **changes)

    def twin(name: str) -> ElasticRun:
        return replace(rigid, space=Space.only(presets(space["three"])[name]), offered=None)

    def specialist(k: int) -> ElasticRun:
        return replace(rigid, space=replace(space["whole"], k=(k,)), offered=None)

    def dense(width: int) -> ElasticRun:
        return replace(rigid, space=replace(space["widths"], hidden=(width,)), offered=None, moe=None)

    def seeded(*specs: Spec, seeds=topic) -> list[Spec]:
        return [replace(spec, seed=seed) for spec in specs for seed in seeds]

    nested_ernie = elastic(ERNIE(policy=Policy()))
    ernie, nested = elastic(ERNIE()), elastic(Nested(), "widths", moe=None)
    thorough = replace(nested, equal="steps", recipe=replace(recipe, epochs=TIMES * recipe.epochs))
    searched = elastic(Uniform(), "five")
    little = replace(recipe, epochs=1, lr=recipe.lr / 2)
    large, small = (
        CNNRun(dataset=rigid.dataset, train_examples=rigid.train_examples, size=name, recipe=size.cnn, augmentation=rigid.augmentation)
        for name in ("large", "small")
    )

    found = {
        "samplers": seeded(
            rigid,
            ernie,
            nested_ernie,
            elastic(Uniform()),
            elastic(Sandwich()),
            elastic(Sandwich(distil=False)),
            elastic(Weighted()),
            elastic(Weighted(phases=True)),
            elastic(Weighted(phases=True, merge=False)),
            elastic(Progressive()),
            seeds=every,
        ),
        "sandwich": seeded(*(elastic(sampler, equal="steps") for sampler in (Sandwich(), Sandwich(distil=False), Uniform(networks=4)))),
        "late distillation": seeded(elastic(Sandwich(after=LATE), equal="steps")),
        "twins": seeded(*(twin(name) for name in PRESETS if name != "large"), seeds=every),
        "axes": seeded(rigid, *(elastic(ERNIE(), axis, equal="steps") for axis in ("depth", "experts", "k"))),
        "sparsity": seeded(
            rigid,
            *(specialist(k) for k in (1, 2 * size.geometry.k)),
            elastic(Uniform(), "wide k", equal="steps"),
            elastic(LayerwiseK(), "wide k", equal="steps"),
            replace(rigid, sampler=CoActivation()),
        ),
        "gates": seeded(*(replace(run, moe=moe) for moe in (MIXTURE, MoEConfig(), MoEConfig(router="bias")) for run in (rigid, ernie))),
        "subsets": [SubsetRun(parent=run) for run in seeded(rigid, ernie, nested_ernie)],
        "recovery": [
            RecoveryRun(parent=run, size=SMALL, what=what, recipe=little, seed=run.seed) for run in seeded(rigid, ernie) for what in WHAT
        ],
        "matformer": seeded(nested, thorough, *(dense(width) for width in space["widths"].hidden)),
        # How much more training brings, and twins as long as the nested network.
        "lengths": seeded(
            replace(rigid, recipe=replace(recipe, epochs=2 * recipe.epochs)),
            *(replace(dense(width), recipe=thorough.recipe) for width in space["widths"].hidden),
        ),
        "mixtures": [MixNMatchRun(parent=run) for run in seeded(thorough)],
        "dynamic": [DynamicRun(parent=run, recipe=little, seed=run.seed) for run in seeded(dense(space["widths"].largest.hidden))],
        "baselines": seeded(large, small)
        + [replace(small, teacher=run, seed=run.seed) for run in seeded(large)]
        + [
            PrunedRun(
                parent=run,
                keep=KEEP,
                recipe=replace(size.cnn, epochs=max(1, size.cnn.epochs // 2)),
                augmentation=rigid.augmentation,
                seed=run.seed,
            )
            for run in seeded(large)
        ],
        "extraction": [ExtractionRun(parent=run, rounds=size.rounds) for run in seeded(ernie)],
        "pace": [
            SamplerCost(
                space=space["three"],
                sampler=sampler,
                moe=MIXTURE,
                d_model=rigid.d_model,
                patch=rigid.patch,
                stem=rigid.stem,
                batch_size=recipe.batch_size,
                precision=recipe.precision,
                seed=seed,
                **size.pace,
                **shape(rigid),
            )
            for sampler in (ERNIE(), Uniform(), Sandwich(), Weighted(), Progressive())
            for seed in topic
        ],
        "search": [SubnetSearchRun(parent=run, seed=run.seed, **size.search) for run in seeded(searched)],
    }
    if parameters.stage in STAGES:
        return {name: specs for name, specs in found.items() if name in STAGES[parameters.stage]}
    return found


#: How much longer than usual the nested widths are trained, and the networks of one width that they are compared with.
TIMES = 2

#: Share of the steps after which distillation in place begins, where it waits.
LATE = 0.3

#: Share of the large CNN's parameters that pruning keeps: about what the small one has.
KEEP = 0.125


def shape(run: ElasticRun) -> dict[str, int]:
    side, channels = SHAPES[run.dataset]
    return {"image_size": side, "channels": channels}


def sized(parameters: Parameters) -> Scale:
    """The scale's sizes with the reader's knobs applied."""
    size = SIZES[parameters.scale]
    changes = given(epochs=parameters.epochs, batch_size=parameters.batch_size)
    base = size.base | {"recipe": replace(size.base["recipe"], **changes)}
    dataset = parameters.dataset or base["dataset"]
    if changed := other_shape(dataset, base["dataset"]):
        base |= changed | {"patch": 2 if dataset == "digits" else 4}
    base |= {"dataset": dataset}
    geometry = replace(size.geometry, **given(experts=parameters.num_experts))
    return replace(
        size, base=base, geometry=geometry, cnn=replace(size.cnn, **changes), **given(seeds=parameters.seeds, topic_seeds=parameters.seeds)
    )
