"""The distillation chapter's students of one teacher, at each scale: methods, temperatures, views, and a teacher with smoothed labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lib.data.augment import Augmentation
from lib.models.resnet import ResNetConfig, resnet18
from lib.models.vit import ViTConfig
from lib.runs.spec import Spec
from lib.studies.anchors.recipes import SHIFTED
from lib.studies.base.images import LIGHT, SHAPES, other_shape
from lib.studies.base.seeds import seeded
from lib.studies.distillation.methods import METHODS
from lib.studies.distillation.pairs import Config, PairRun, PlainRun
from lib.training.loop import Recipe

S = TypeVar("S")

#: Smoothing of the labels of the teacher whose students are compared with those of the usual one.
SMOOTHING = 0.1


@dataclass(frozen=True)
class Students:
    """What a scale chooses.

    ``teacher``, ``student``  geometries
    ``first``, ``second``     how a teacher and how a student is trained;  ``long``: epochs of the patient students
    ``times``     how many times as long students by labels alone are trained, too
    ``maps``      weight of the attention term for maps of this size
    ``sweep``     temperatures and shares α of Hinton's method
    ``side``      seeds of the side studies
    """

    dataset: str
    teacher: Config
    student: Config
    first: Recipe
    second: Recipe
    long: int
    maps: float
    sweep: tuple[tuple[float, ...], tuple[float, ...]]
    times: tuple[int, ...] = (2, 4)
    seeds: int = 3
    side: int = 1
    train_examples: int | None = None
    augmentation: Augmentation = Augmentation()
    mixup: float = 1.0
    methods: tuple[str, ...] = tuple(METHODS)


def adam(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, clip=5.0, **changes)


def muon(epochs: int) -> Recipe:
    """Muon as on the private inference chapter's network, which is this chapter's teacher."""
    return Recipe(
        epochs=epochs,
        batch_size=250,
        optimizer="muon",
        lr=0.02,
        weight_decay=0.1,
        schedule="linear",
        clip=None,
        precision="auto",
        channels_last=True,
    )


FAST = {"precision": "bf16", "channels_last": True}

STUDENTS = {
    "smoke": Students(
        dataset="digits",
        teacher=ResNetConfig((8, 16), (1, 1), channels=1),
        student=ResNetConfig((4, 8), (1, 1), channels=1),
        first=adam(2, 64, 1e-2),
        second=adam(1, 64, 1e-2),
        long=2,
        maps=62.5,
        sweep=((4.0,), (0.7,)),
        seeds=1,
        train_examples=256,
        methods=("hinton", "standardised"),
    ),
    "laptop": Students(
        dataset="digits",
        teacher=ResNetConfig((16, 32), (1, 1), channels=1),
        student=ResNetConfig((4, 8), (1, 1), channels=1),
        first=adam(6, 64, 1e-2),
        second=adam(6, 64, 2e-2),
        long=7,
        maps=62.5,
        sweep=((1.0, 4.0), (0.7,)),
        seeds=1,
        methods=("hinton", "fitnets", "attention", "relational", "contrastive", "decoupled", "dist", "standardised"),
    ),
    "cpu": Students(
        dataset="cifar10",
        teacher=ResNetConfig((32, 64, 128), (1, 1, 1), stride=2),
        student=ResNetConfig((8, 16, 32), (1, 1, 1), stride=2),
        first=muon(12),
        # On validation images 20 epochs reach 77.4 % (half the rate 76.0, twice the rate 77.4), this length 79.
        second=muon(40),
        long=40,
        maps=250.0,
        sweep=((1.0, 4.0), (0.7,)),
        times=(2,),
        side=3,
        augmentation=SHIFTED,
        methods=("hinton", "fitnets", "attention", "relational", "contrastive", "decoupled", "dist", "standardised"),
    ),
    "gpu": Students(
        dataset="cifar10",
        teacher=resnet18(),
        student=ResNetConfig((16, 32, 64, 128), (1, 1, 1, 1)),
        first=adam(30, 256, 2e-3, **FAST),
        second=adam(18, 512, 4e-3, **FAST),
        long=36,
        maps=1000.0,
        sweep=((1.0, 4.0), (0.7, 0.9)),
        augmentation=LIGHT,
    ),
}


#: The pair of those who train many teachers on a CPU: a smaller teacher, and a ninth of the images.
SMALL = replace(
    STUDENTS["cpu"],
    teacher=ResNetConfig((24, 48, 96), (1, 1, 1), stride=2),
    first=adam(9, 64, 5e-3),
    second=adam(5, 64, 5e-3),
    train_examples=5_000,
    augmentation=LIGHT,
)


def student_studies(size: Students) -> dict[str, list[Spec]]:
    """The Specs of each study about students that see their fixed teacher's images, by name."""
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    teacher, pair = usual_pair(size)
    alone = replace(teacher, model=size.student, recipe=size.second)
    methods = [replace(pair, method=name, weight=size.maps if "attention" in name else None) for name in size.methods]
    patient = replace(pair, method="patient", recipe=replace(size.second, epochs=size.long))
    mixed = replace(patient, augmentation=replace(size.augmentation, mixup=size.mixup))
    shifted = Augmentation(crop=1) if size.augmentation == Augmentation() else size.augmentation

    return {
        "teacher": seeded(seeds, teacher),
        "alone": seeded(seeds, alone),
        # Labels alone for twice and four times as long: what the seconds that a teacher takes would be worth without one.
        "longer": seeded(seeds, *(replace(alone, recipe=replace(size.second, epochs=times * size.second.epochs)) for times in size.times)),
        "methods": seeded(seeds, *methods),
        "sweep": seeded(side, *(replace(pair, temperature=t, alpha=a) for t in size.sweep[0] for a in size.sweep[1])),
        "patient": seeded(seeds, mixed, replace(alone, recipe=patient.recipe)),
        "views": seeded(side, *(replace(patient, augmentation=shifted, view=view) for view in ("same", "independent", "fixed"))),
        "smoothing": smoothing_study(seeds, teacher, pair),
    }


def usual_pair(size: Students) -> tuple[PlainRun, PairRun]:
    """The teacher of all, and its student by Hinton's method."""
    teacher = PlainRun(
        dataset=size.dataset, train_examples=size.train_examples, model=size.teacher, recipe=size.first, augmentation=size.augmentation
    )
    return teacher, PairRun(parent=teacher, model=size.student, recipe=size.second, train_examples=size.train_examples)


def smoothing_study(seeds: Iterable[int], teacher: PlainRun, pair: PairRun) -> list[Spec]:
    """Teachers with hard and with smoothed labels, and the students that learn from them by Hinton's method."""
    smoothed = replace(teacher, recipe=replace(teacher.recipe, label_smoothing=SMOOTHING))
    return seeded(seeds, teacher, smoothed, pair, replace(pair, parent=smoothed))


def sized_students(size: Students, dataset: str | None, epochs: int | None, seeds: int | None) -> Students:
    """Return the sizes with a reader's images, epochs of students and seeds where they are not None."""
    if dataset not in (None, size.dataset):
        size = on_other_data(size, dataset)
    if epochs is not None:
        longer = epochs / size.second.epochs
        size = replace(size, second=replace(size.second, epochs=epochs), long=max(1, round(longer * size.long)))
    return size if seeds is None else replace(size, seeds=seeds, side=seeds)


def on_other_data(size: Students, dataset: str) -> Students:
    """Return the sizes for another data set: networks for its images and classes, and its own number of images.

    The weight of the attention term follows the size of the maps, because it is a mean over positions.
    """
    share = (SHAPES[dataset][0] / SHAPES[size.dataset][0]) ** 2
    return replace(for_images(size, dataset), dataset=dataset, maps=share * size.maps, **other_shape(dataset, size.dataset))


def for_images(size: S, dataset: str) -> S:
    """Return a dataclass of sizes with each network in it changed for the images and the classes of a data set."""
    return replace(size, **{name: fitting(value, dataset) for name, value in vars(size).items() if name != "dataset"})


def fitting(value: Any, dataset: str) -> Any:
    """Return a network's geometry, or several, for the data set's images and classes; anything else as it is."""
    side, channels = SHAPES[dataset]
    classes = 100 if dataset == "cifar100" else 10
    if isinstance(value, ViTConfig):
        patch = value.patch if side % value.patch == 0 else 4 if side % 4 == 0 else 2
        return replace(value, image_size=side, channels=channels, classes=classes, patch=patch)
    if hasattr(value, "channels") and hasattr(value, "classes"):
        return replace(value, channels=channels, classes=classes)
    return tuple(fitting(one, dataset) for one in value) if isinstance(value, tuple) else value
