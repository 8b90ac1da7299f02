"""Hostile, absent and inner teachers: at which size they are run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.augment import Augmentation
from lib.models.cnn import CNNConfig
from lib.models.resnet import ResNetConfig, resnet18
from lib.studies.base.images import LIGHT, SHAPES, other_shape
from lib.studies.distillation.api import FAST, SMALL, STUDENTS, Config, for_images
from lib.training.loop import Recipe


@dataclass(frozen=True)
class Hostile:
    """What a scale chooses for hostile and absent teachers, beside the pair of :data:`PAIRS`.

    ``others``    further students of the nasty teacher, the teacher's own geometry among them
    ``omegas``, ``taus``   of the nasty teachers, the usual one first
    ``heard``     student temperatures and α that are tried on the nasty teacher
    ``parts``     shares of the images that students of the nasty teacher have
    ``places``    blocks behind which a skeptical student has its shallow classifiers; ``listeners`` that are compared
    ``zero``      the zero-shot student: its geometry, recipe, rounds in each epoch, β and what the generator has
    ``zero_dataset``  the images that zero-shot students are tested on, None: the pair's.  As many of them train the teacher
    ``few``       seeds at most
    """

    others: tuple[Config, ...]
    omegas: tuple[float, ...]
    taus: tuple[float, ...]
    heard: tuple[tuple[float, float], ...]
    parts: tuple[float, ...]
    places: tuple[int, ...]
    listeners: tuple[int, ...]
    zero: Config
    zero_recipe: Recipe
    rounds: int
    beta: float
    noise: int
    width: int
    zero_variants: int = 3
    zero_dataset: str | None = None
    few: int = 3


@dataclass(frozen=True)
class Exits:
    """What a scale chooses for networks that teach themselves.

    ``places``    blocks with a shallow classifier, usually; ``other_places``: other numbers and places
    ``examples``  training images, None: all there are
    ``search``    population and generations of the search for thresholds
    ``parts``     versions of self-distillation with something left out, labels at every depth the first
    ``side``      seeds of the side studies
    """

    dataset: str
    model: ResNetConfig
    recipe: Recipe
    augmentation: Augmentation
    places: tuple[int, ...]
    other_places: tuple[tuple[int, ...], ...]
    examples: int | None = None
    search: tuple[int, int] = (32, 25)
    parts: int = 3
    seeds: int = 3
    side: int = 1


def game(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=0.0, warmup=0.0, clip=5.0, **changes)


#: Teacher and student by scale.
PAIRS = STUDENTS | {"cpu": SMALL}

HOSTILE = {
    "smoke": Hostile(
        others=(),
        omegas=(0.04,),
        taus=(4.0,),
        heard=(),
        parts=(),
        places=(1,),
        listeners=(0,),
        zero=ResNetConfig((4, 8), (1, 1), channels=1),
        zero_recipe=game(1, 32, 1e-2),
        rounds=3,
        beta=15.0,
        noise=16,
        width=8,
        zero_variants=1,
    ),
    "laptop": Hostile(
        others=(),
        omegas=(0.04, 0.1),
        taus=(4.0,),
        heard=(),
        parts=(0.3,),
        places=(1,),
        listeners=(0,),
        zero=ResNetConfig((8, 16), (1, 1), channels=1),
        zero_recipe=game(2, 48, 6e-3),
        rounds=14,
        beta=15.0,
        noise=32,
        width=24,
        zero_variants=1,
    ),
    "cpu": Hostile(
        others=(ResNetConfig((16, 32, 64), (1, 1, 1), stride=2),),
        omegas=(0.12, 0.04, 0.3),
        taus=(4.0,),
        heard=((1.0, 0.9),),
        parts=(0.2,),
        places=(1, 2),
        listeners=(0, 1),
        zero=ResNetConfig((16, 32, 64), (1, 1, 1), stride=2),
        zero_recipe=game(5, 64, 4e-3),
        rounds=40,
        beta=60.0,
        noise=64,
        width=48,
        zero_variants=2,
        zero_dataset="mnist",
    ),
    "gpu": Hostile(
        others=(CNNConfig(((32,), (64,), (128, 128))),),
        omegas=(0.04, 0.1),
        taus=(4.0,),
        heard=((1.0, 0.9),),
        parts=(0.1,),
        places=(1, 2),
        listeners=(0,),
        zero=ResNetConfig((32, 64, 128, 256), (1, 1, 1, 1)),
        zero_recipe=game(12, 128, 2e-3, **FAST),
        rounds=75,
        beta=250.0,
        noise=100,
        width=128,
        zero_variants=1,
    ),
}

EXITS = {
    "smoke": Exits(
        dataset="digits",
        model=ResNetConfig((4, 8, 8), (1, 1, 1), channels=1),
        recipe=Recipe(epochs=1, batch_size=64, lr=1e-2),
        augmentation=Augmentation(),
        places=(1, 2),
        other_places=(),
        examples=128,
        search=(8, 3),
        seeds=1,
    ),
    "laptop": Exits(
        dataset="digits",
        model=ResNetConfig((8, 16, 32), (1, 1, 1), channels=1),
        recipe=Recipe(epochs=7, batch_size=32, lr=1.2e-2),
        augmentation=Augmentation(crop=1),
        places=(1, 2),
        other_places=((1,),),
        examples=300,
        parts=1,
        seeds=1,
    ),
    "cpu": Exits(
        dataset="cifar10",
        model=ResNetConfig((12, 24, 48), (1, 1, 1), stride=2),
        recipe=Recipe(epochs=5, batch_size=64, lr=5e-3),
        augmentation=LIGHT,
        places=(1, 2),
        other_places=((1,), (2,)),
        examples=5_000,
        side=3,
    ),
    "gpu": Exits(
        dataset="cifar10",
        model=resnet18(widths=(32, 64, 128, 256)),
        recipe=Recipe(epochs=20, batch_size=256, lr=2e-3, **FAST),
        augmentation=LIGHT,
        places=(2, 4, 6),
        other_places=((4,), (2, 6), (1, 2, 3), (5, 6, 7), (1, 2, 3, 4, 5, 6, 7)),
    ),
}


def hostile_on(size: Hostile, dataset: str, usual: str) -> Hostile:
    """Return the sizes for another data set than the ``usual`` one.

    β follows the size of the maps; nasty teachers of 100 classes take the authors' ω = 0.005 and τ = 20.
    """
    share = (SHAPES[dataset][0] / SHAPES[usual][0]) ** 2
    moved = replace(for_images(size, dataset), beta=share * size.beta)
    if dataset != "cifar100":
        return moved
    return replace(moved, omegas=tuple(omega / 8 for omega in size.omegas), taus=tuple(5 * tau for tau in size.taus))


def exits_on(size: Exits, dataset: str) -> Exits:
    """Return the sizes for another data set, with its own number of images and distortions where its images have another shape."""
    changes = {{"train_examples": "examples"}.get(name, name): value for name, value in other_shape(dataset, size.dataset).items()}
    return replace(for_images(size, dataset), dataset=dataset, **changes)
