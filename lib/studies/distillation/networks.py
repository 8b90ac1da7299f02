"""Chapter 6's networks that teach themselves, its transformers, and what mixtures of experts leave behind, at each scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.augment import Augmentation
from lib.data.masked_lm import CHOSEN
from lib.distillation.tinybert import layer_map
from lib.models.encoder import EncoderConfig
from lib.models.resnet import ResNetConfig, resnet18
from lib.models.vit import ViTConfig, preset
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.studies.base.images import LIGHT
from lib.studies.base.seeds import seeded
from lib.studies.distillation.deit import KINDS, DeiTRun
from lib.studies.distillation.exits import ExitRun, ExitSearch
from lib.studies.distillation.pairs import PlainRun
from lib.studies.distillation.sparse import SparseToDense
from lib.studies.distillation.tinybert import GeneralRun, TinyRun
from lib.studies.moe.api import ViTRun
from lib.studies.tickets.api import HOME_MADE, BagOfWordsRun, FinetuneRun, PretrainRun, Source, TaskSize
from lib.training.loop import Recipe

#: Switch routing in every second layer, as in most of chapter 1.
SWITCH = MoEConfig(placement="every-second")


@dataclass(frozen=True)
class Texts:
    """TinyBERT's part: the text, what is pre-trained and fine-tuned on which task, and the student.

    ``pretraining``   recipe of the teacher, and with ``epochs`` of their own of all that students learn before the task
    ``steps``     in each of these epochs
    ``tuning``, ``second``   recipes of the teacher's fine-tuning and of everything that students learn of the task
    ``copies``    of each example with words replaced
    ``chosen``    share of the tokens that pre-training hides
    """

    source: Source
    teacher: EncoderConfig
    student: EncoderConfig
    task: str
    size: TaskSize
    pretraining: Recipe
    epochs: int
    steps: int
    tuning: Recipe
    second: Recipe
    copies: int
    chosen: float = CHOSEN


def of_chapter5(scale: str, task: str, student: EncoderConfig, epochs: int, second: Recipe, copies: int) -> Texts:
    """Chapter 5's pre-trained encoder and its fine-tuned ones as teachers, which are trained once for both chapters."""
    size = HOME_MADE[scale]
    return Texts(
        size.source, size.model, student, task, size.size, size.pretrain, epochs, size.steps, size.recipe, second, copies, size.chosen
    )


@dataclass(frozen=True)
class Networks:
    """What a scale chooses.

    ``places``     blocks with a shallow classifier, usually; ``other_places``: other numbers and places
    ``parts``      versions of self-distillation with something left out, labels at every depth the first
    ``maps``       whether TinyBERT's other layer maps are tried
    ``vit``        the transformer that DeiT distils into; ``vit_recipe`` its training
    ``mixture``    chapter 1's transformer and its recipe, for mixtures of ``experts``, each number in turn
    ``side``       seeds of the side studies
    """

    dataset: str
    exits: ResNetConfig
    exit_recipe: Recipe
    exit_augmentation: Augmentation
    places: tuple[int, ...]
    other_places: tuple[tuple[int, ...], ...]
    vit: ViTConfig
    vit_recipe: Recipe
    mixture: ViTRun
    experts: tuple[int, ...]
    texts: Texts
    exit_examples: int | None = None
    search: tuple[int, int] = (32, 25)
    parts: int = 3
    maps: bool = True
    seeds: int = 3
    side: int = 1


FAST = {"precision": "bf16", "channels_last": True}

NETWORKS = {
    "smoke": Networks(
        "digits",
        ResNetConfig((4, 8, 8), (1, 1, 1), channels=1),
        Recipe(epochs=1, batch_size=64, lr=1e-2),
        Augmentation(),
        places=(1, 2),
        other_places=(),
        vit=preset("tiny", image_size=8, channels=1, patch=4, width=24, hidden=48, pool="class"),
        vit_recipe=Recipe(epochs=1, batch_size=64, lr=5e-3),
        mixture=ViTRun(dataset="digits", train_examples=128, preset="tiny", recipe=Recipe(epochs=1, batch_size=64, lr=2e-3)),
        experts=(4,),
        texts=Texts(
            Source(vocabulary=384, context=32),
            EncoderConfig(width=16, depth=2, heads=2, hidden=32),
            EncoderConfig(width=8, depth=1, heads=2, hidden=16),
            "order",
            TaskSize(64, 64),
            Recipe(epochs=1, batch_size=16, lr=3e-3),
            1,
            4,
            Recipe(epochs=1, batch_size=32, lr=2e-3),
            Recipe(epochs=4, batch_size=32, lr=2e-3),
            copies=1,
        ),
        exit_examples=128,
        search=(8, 3),
        seeds=1,
    ),
    "laptop": Networks(
        "digits",
        ResNetConfig((8, 16, 32), (1, 1, 1), channels=1),
        Recipe(epochs=7, batch_size=32, lr=1.2e-2),
        Augmentation(crop=1),
        places=(1, 2),
        other_places=((1,),),
        vit=preset("tiny", image_size=8, channels=1, patch=2, depth=3, pool="class"),
        vit_recipe=Recipe(epochs=4, batch_size=64, lr=5e-3),
        mixture=ViTRun(dataset="digits", preset="tiny", recipe=Recipe(epochs=4, batch_size=64, lr=1e-2)),
        experts=(4,),
        texts=Texts(
            Source(vocabulary=512),
            EncoderConfig(width=48, depth=2, heads=4, hidden=192),
            EncoderConfig(width=24, depth=1, heads=4, hidden=96),
            "shuffled",
            TaskSize(640, 400),
            Recipe(epochs=4, batch_size=32, lr=3e-3),
            4,
            40,
            Recipe(epochs=6, batch_size=32, lr=2e-3),
            Recipe(epochs=8, batch_size=32, lr=3e-3),
            copies=1,
        ),
        exit_examples=300,
        parts=1,
        seeds=1,
    ),
    "cpu": Networks(
        "cifar10",
        ResNetConfig((12, 24, 48), (1, 1, 1), stride=2),
        Recipe(epochs=5, batch_size=64, lr=5e-3),
        LIGHT,
        places=(1, 2),
        other_places=((1,), (2,)),
        vit=preset("small", width=48, hidden=192, heads=4, patch=8, pool="class"),
        vit_recipe=Recipe(epochs=5, batch_size=64, lr=3e-3),
        mixture=ViTRun(
            dataset="cifar10",
            train_examples=6_000,
            preset="small",
            d_model=48,
            patch=8,
            recipe=Recipe(epochs=4, batch_size=64, lr=2e-3),
            augmentation=LIGHT,
        ),
        experts=(16,),
        texts=of_chapter5(
            "cpu", "name", EncoderConfig(width=48, depth=3, heads=4, hidden=192), 5, Recipe(epochs=8, batch_size=32, lr=2e-3), copies=1
        ),
        exit_examples=5_000,
        side=3,
    ),
    "gpu": Networks(
        "cifar10",
        resnet18(widths=(32, 64, 128, 256)),
        Recipe(epochs=20, batch_size=256, lr=2e-3, **FAST),
        LIGHT,
        places=(2, 4, 6),
        other_places=((4,), (2, 6), (1, 2, 3), (5, 6, 7), (1, 2, 3, 4, 5, 6, 7)),
        vit=ViTConfig(width=192, depth=6, heads=6, hidden=768, pool="class"),
        vit_recipe=Recipe(epochs=30, batch_size=512, lr=2e-3, precision="bf16"),
        mixture=ViTRun(
            dataset="cifar10", preset="small", augmentation=LIGHT, recipe=Recipe(epochs=30, batch_size=512, lr=2e-3, precision="bf16")
        ),
        experts=(16,),
        texts=of_chapter5(
            "gpu",
            "sst2",
            EncoderConfig(width=96, depth=2, heads=8, hidden=384),
            4,
            Recipe(epochs=8, batch_size=64, lr=1e-3, precision="bf16"),
            copies=3,
        ),
    ),
}


def network_studies(size: Networks, teacher: PlainRun) -> dict[str, list[Spec]]:
    """The Specs of each study by name.  ``teacher``: the convolutional teacher of the transformers, whose data they
    share.
    """
    return {**exit_studies(size), **deit_studies(size, teacher), **sparse_studies(size), **text_studies(size)}


def exit_studies(size: Networks) -> dict[str, list[Spec]]:
    plain = ExitRun(
        dataset=size.dataset,
        train_examples=size.exit_examples,
        model=size.exits,
        recipe=size.exit_recipe,
        augmentation=size.exit_augmentation,
    )
    own = replace(plain, places=size.places)
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    population, generations = size.search
    parts = replace(own, alpha=0.0, weight=0.0), replace(own, weight=0.0), replace(own, attention=False)
    return {
        "self": seeded(seeds, plain, own),
        "self longer": seeded(seeds, replace(plain, recipe=replace(size.exit_recipe, epochs=2 * size.exit_recipe.epochs))),
        "references": seeded(side, *(replace(own, reference=name) for name in ("ensemble", "transitive", "dense"))),
        "self parts": seeded(side, *parts[: size.parts]),
        "places": seeded(side, *(replace(own, places=places) for places in size.other_places)),
        "thresholds": seeded(seeds, ExitSearch(parent=own, population=population, generations=generations)),
    }


def deit_studies(size: Networks, teacher: PlainRun) -> dict[str, list[Spec]]:
    labels = DeiTRun(
        dataset=teacher.dataset,
        train_examples=teacher.train_examples,
        model=size.vit,
        token=False,
        recipe=size.vit_recipe,
        augmentation=teacher.augmentation,
    )
    hard = replace(labels, teacher=teacher, token=True)
    chapter1 = replace(labels, model=replace(size.vit, pool="mean"))
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    return {
        "deit": seeded(seeds, labels, hard, replace(hard, kind="soft"), replace(hard, kind="soft, numel")),
        "deit token": seeded(seeds, *(replace(hard, token=False, kind=kind) for kind in KINDS)),
        "deit teachers": seeded(side, replace(hard, teacher=labels)),
        "chapter 1's": seeded(side, chapter1, replace(chapter1, teacher=teacher)),
    }


def sparse_studies(size: Networks) -> dict[str, list[Spec]]:
    """Main: the dense network, the mixture, and what is distilled by Switch's recipe; side: its ingredients one by one.

    A student with inherited weights has been trained twice as long as the dense network: it is compared with one that was,
    too.
    """
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    mixtures = [replace(size.mixture, moe=replace(SWITCH, experts=experts)) for experts in size.experts]
    switch = SparseToDense(teacher=mixtures[0])
    longer = replace(size.mixture, recipe=replace(size.mixture.recipe, epochs=2 * size.mixture.recipe.epochs))
    return {
        "sparse": seeded(seeds, size.mixture, longer, *mixtures, *(replace(switch, teacher=mixture) for mixture in mixtures)),
        "sparse parts": seeded(side, replace(switch, inherit=False), replace(switch, weight=0.0), replace(switch, weight=1.0)),
    }


def text_studies(size: Networks) -> dict[str, list[Spec]]:
    """Teachers and students of each seed begin with the same pre-trained weights, as chapter 5's networks do."""
    texts = size.texts
    pretrained = PretrainRun(source=texts.source, model=texts.teacher, recipe=texts.pretraining, steps=texts.steps, chosen=texts.chosen)
    teacher = FinetuneRun(parent=pretrained, task=texts.task, size=texts.size, recipe=texts.tuning)
    first = replace(texts.pretraining, epochs=texts.epochs)
    general = GeneralRun(parent=pretrained, model=texts.student, recipe=first, steps=texts.steps)
    alone = replace(pretrained, model=texts.student, recipe=first)
    tiny = TinyRun(teacher=teacher, model=texts.student, first=general, copies=texts.copies, recipe=texts.second)
    depths = texts.student.depth, texts.teacher.depth
    # One layer has no order to keep: which layer it follows says little about maps.
    maps = [name for name in ("top", "bottom") if size.maps and depths[0] > 1 and layer_map(*depths, name) != layer_map(*depths)]

    def tuned(seeds: Iterable[int], *runs: TinyRun) -> list[Spec]:
        return [replace(run, seed=seed, teacher=replace(run.teacher, seed=seed)) for run in runs for seed in seeds]

    side = range(min(size.side, size.seeds))
    return {
        "words": [BagOfWordsRun(source=texts.source, task=texts.task, size=texts.size)],
        "tinybert": tuned(
            range(size.seeds),
            tiny,
            replace(tiny, first=alone, lesson="labels", copies=0),
            replace(tiny, first=None, lesson="labels", copies=0),
        ),
        "tinybert parts": tuned(side, replace(tiny, first=None), replace(tiny, lesson="answers"), replace(tiny, copies=0)),
        "layer maps": tuned(side, *(replace(tiny, map=name, first=replace(general, map=name)) for name in maps)),
    }
