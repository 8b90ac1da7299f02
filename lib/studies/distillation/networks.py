"""The distillation chapter's transformers, and what mixtures of experts leave behind, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.models.vit import ViTConfig, preset
from lib.moe.layer import MoEConfig
from lib.runs.spec import Spec
from lib.studies.base.images import LIGHT
from lib.studies.base.seeds import seeded
from lib.studies.distillation.deit import KINDS, DeiTRun
from lib.studies.distillation.pairs import PlainRun
from lib.studies.distillation.sparse import SparseToDense
from lib.studies.distillation.students import SMALL, usual_pair
from lib.studies.moe.api import ViTRun
from lib.training.loop import Recipe

#: Switch routing in every second layer, as in most of the mixtures chapter.
SWITCH = MoEConfig(placement="every-second")


@dataclass(frozen=True)
class Networks:
    """What a scale chooses.

    ``vit``        the transformer that DeiT distils into; ``vit_recipe`` its training
    ``mixture``    the mixtures chapter's transformer and its recipe, for mixtures of ``experts``, each number in turn
    ``side``       seeds of the side studies
    ``teacher``    the transformer's convolutional teacher, whose images it has; None: the other students'
    """

    dataset: str
    vit: ViTConfig
    vit_recipe: Recipe
    mixture: ViTRun
    experts: tuple[int, ...]
    seeds: int = 3
    side: int = 1
    teacher: PlainRun | None = None


FAST = {"precision": "bf16", "channels_last": True}

NETWORKS = {
    "smoke": Networks(
        dataset="digits",
        vit=preset("tiny", image_size=8, channels=1, patch=4, width=24, hidden=48, pool="class"),
        vit_recipe=Recipe(epochs=1, batch_size=64, lr=5e-3),
        mixture=ViTRun(dataset="digits", train_examples=128, preset="tiny", recipe=Recipe(epochs=1, batch_size=64, lr=2e-3)),
        experts=(4,),
        seeds=1,
    ),
    "laptop": Networks(
        dataset="digits",
        vit=preset("tiny", image_size=8, channels=1, patch=2, depth=3, pool="class"),
        vit_recipe=Recipe(epochs=4, batch_size=64, lr=5e-3),
        mixture=ViTRun(dataset="digits", preset="tiny", recipe=Recipe(epochs=4, batch_size=64, lr=1e-2)),
        experts=(4,),
        seeds=1,
    ),
    "cpu": Networks(
        dataset="cifar10",
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
        side=3,
        # Thirty transformers on all the other students' images are for a GPU.
        teacher=usual_pair(SMALL)[0],
    ),
    "gpu": Networks(
        dataset="cifar10",
        vit=ViTConfig(width=192, depth=6, heads=6, hidden=768, pool="class"),
        vit_recipe=Recipe(epochs=30, batch_size=512, lr=2e-3, precision="bf16"),
        mixture=ViTRun(
            dataset="cifar10", preset="small", augmentation=LIGHT, recipe=Recipe(epochs=30, batch_size=512, lr=2e-3, precision="bf16")
        ),
        experts=(16,),
    ),
}


def network_studies(size: Networks, teacher: PlainRun) -> dict[str, list[Spec]]:
    """The Specs of each study by name.  ``teacher``: of the transformers, where the sizes have none; they share its data."""
    return {**deit_studies(size, size.teacher or teacher), **sparse_studies(size)}


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
    pooled = replace(labels, model=replace(size.vit, pool="mean"))
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    return {
        "deit": seeded(seeds, labels, hard, replace(hard, kind="soft"), replace(hard, kind="soft, numel")),
        "deit token": seeded(seeds, *(replace(hard, token=False, kind=kind) for kind in KINDS)),
        "deit teachers": seeded(side, replace(hard, teacher=labels)),
        "mean of tokens": seeded(side, pooled, replace(pooled, teacher=teacher)),
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
