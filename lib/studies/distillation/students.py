"""Chapter 6's students of one teacher, at each scale: methods, temperatures, views, nasty teachers, skeptical and
zero-shot students.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.data.augment import Augmentation
from lib.models.cnn import CNNConfig
from lib.models.resnet import ResNetConfig, resnet18
from lib.runs.spec import Spec
from lib.studies.base.images import LIGHT
from lib.studies.base.seeds import seeded
from lib.studies.distillation.methods import METHODS
from lib.studies.distillation.nasty import GalleryRun, NastyRun
from lib.studies.distillation.pairs import Config, PairRun, PlainRun
from lib.studies.distillation.skeptical import SkepticalRun
from lib.studies.distillation.zero_shot import TransitionRun, ZeroShotRun
from lib.training.loop import Recipe

#: Smoothing of the labels of the teacher whose students are compared with those of the usual one.
SMOOTHING = 0.1

#: What students of a nasty teacher take from it, as its authors have it.
NASTY_ALPHA = 0.9


@dataclass(frozen=True)
class Students:
    """What a scale chooses.

    ``teacher``, ``student``  geometries;  ``others`` further students of the nasty teacher, the teacher's own geometry
                              among them
    ``first``, ``second``     how a teacher and how a student is trained;  ``long``: epochs of the patient students
    ``maps``      weight of the attention term for maps of this size
    ``sweep``     temperatures and shares α of Hinton's method
    ``omegas``, ``taus``   of the nasty teachers, the usual one first
    ``heard``     student temperatures and α that are tried on the nasty teacher
    ``parts``     shares of the images that students of the nasty teacher have
    ``places``    blocks behind which a skeptical student has its shallow classifiers; ``listeners`` that are compared
    ``zero``      the zero-shot student: its geometry, recipe, rounds in each epoch, β and what the generator has
    ``zero_dataset``  the images that zero-shot students are tested on, None: ``dataset``.  As many of them train the teacher
    ``few``       seeds of nasty teachers, their students, and zero-shot students;  ``side``: those of the side studies
    """

    dataset: str
    teacher: Config
    student: Config
    others: tuple[Config, ...]
    first: Recipe
    second: Recipe
    long: int
    maps: float
    sweep: tuple[tuple[float, ...], tuple[float, ...]]
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
    seeds: int = 3
    few: int = 3
    side: int = 1
    train_examples: int | None = None
    augmentation: Augmentation = Augmentation()
    mixup: float = 1.0
    methods: tuple[str, ...] = tuple(METHODS)


def adam(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, clip=5.0, **changes)


def game(epochs: int, batch_size: int, lr: float, **changes) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=0.0, warmup=0.0, clip=5.0, **changes)


FAST = {"precision": "bf16", "channels_last": True}

STUDENTS = {
    "smoke": Students(
        dataset="digits",
        teacher=ResNetConfig((8, 16), (1, 1), channels=1),
        student=ResNetConfig((4, 8), (1, 1), channels=1),
        others=(),
        first=adam(2, 64, 1e-2),
        second=adam(1, 64, 1e-2),
        long=2,
        maps=62.5,
        sweep=((4.0,), (0.7,)),
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
        seeds=1,
        train_examples=256,
        methods=("hinton", "standardised"),
    ),
    "laptop": Students(
        dataset="digits",
        teacher=ResNetConfig((16, 32), (1, 1), channels=1),
        student=ResNetConfig((4, 8), (1, 1), channels=1),
        others=(),
        first=adam(6, 64, 1e-2),
        second=adam(6, 64, 2e-2),
        long=7,
        maps=62.5,
        sweep=((1.0, 4.0), (0.7,)),
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
        seeds=1,
        methods=("hinton", "fitnets", "attention", "relational", "contrastive", "decoupled", "dist", "standardised"),
    ),
    "cpu": Students(
        dataset="cifar10",
        teacher=ResNetConfig((24, 48, 96), (1, 1, 1), stride=2),
        student=ResNetConfig((8, 16, 32), (1, 1, 1), stride=2),
        others=(ResNetConfig((16, 32, 64), (1, 1, 1), stride=2),),
        first=adam(9, 64, 5e-3),
        second=adam(5, 64, 5e-3),
        long=8,
        maps=250.0,
        sweep=((1.0, 4.0, 10.0), (0.3, 0.7, 0.9)),
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
        side=3,
        train_examples=5_000,
        augmentation=LIGHT,
        methods=("hinton", "fitnets", "attention", "relational", "contrastive", "decoupled", "dist", "standardised"),
    ),
    "gpu": Students(
        dataset="cifar10",
        teacher=resnet18(),
        student=ResNetConfig((16, 32, 64, 128), (1, 1, 1, 1)),
        others=(CNNConfig(((32,), (64,), (128, 128))),),
        first=adam(30, 256, 2e-3, **FAST),
        second=adam(20, 512, 4e-3, **FAST),
        long=40,
        maps=1000.0,
        sweep=((1.0, 4.0), (0.7, 0.9)),
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
        augmentation=LIGHT,
    ),
}


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
        "longer": seeded(seeds, *(replace(alone, recipe=replace(size.second, epochs=times * size.second.epochs)) for times in (2, 4))),
        "methods": seeded(seeds, *methods),
        "sweep": seeded(side, *(replace(pair, temperature=t, alpha=a) for t in size.sweep[0] for a in size.sweep[1])),
        "patient": seeded(seeds, mixed, replace(alone, recipe=patient.recipe)),
        "views": seeded(side, *(replace(patient, augmentation=shifted, view=view) for view in ("same", "independent", "fixed"))),
        "smoothing": smoothing_study(seeds, teacher, pair),
        **nasty_studies(size, teacher, alone, pair),
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


def nasty_studies(size: Students, teacher: PlainRun, alone: PlainRun, pair: PairRun) -> dict[str, list[Spec]]:
    """A nasty teacher, its students and those of the normal one, ablations, and skeptical students."""
    seeds, side = range(min(size.few, size.seeds)), range(min(size.side, size.seeds))
    nasty = NastyRun(parent=teacher, omega=size.omegas[0], temperature=size.taus[0])
    student = replace(pair, temperature=4.0, alpha=NASTY_ALPHA)
    whole = size.train_examples or {"digits": 1200, "mnist": 55_000}.get(size.dataset, 45_000)
    own = size.student if isinstance(size.student, ResNetConfig) else size.teacher
    skeptical = SkepticalRun(parent=nasty, model=own, places=size.places, recipe=size.second, train_examples=size.train_examples)
    listeners = [replace(skeptical, listener=number) for number in size.listeners]
    others = [
        (replace(alone, model=model), replace(student, model=model), replace(student, model=model, parent=nasty)) for model in size.others
    ]
    parts = [round(share * whole) for share in size.parts]
    scarce = [
        (replace(alone, train_examples=part), replace(student, train_examples=part, parent=nasty), replace(skeptical, train_examples=part))
        for part in parts
    ]
    ablated = [replace(nasty, omega=omega) for omega in size.omegas[1:]] + [replace(nasty, temperature=tau) for tau in size.taus[1:]]
    return {
        "nasty": seeded(seeds, nasty),
        "nasty students": seeded(seeds, student, replace(student, parent=nasty)),
        "nasty sizes": seeded(side, *(spec for trio in others for spec in trio)),
        "nasty ablations": seeded(
            side,
            *ablated,
            *(replace(student, parent=other) for other in ablated),
            *(replace(student, parent=nasty, temperature=t, alpha=a) for t, a in size.heard),
        ),
        "nasty parts": seeded(side, *(spec for trio in scarce for spec in trio)),
        "nasty gallery": seeded(range(1), GalleryRun(parent=nasty)),
        # The control: the same classifiers, of which none hears a teacher.
        "skeptical": seeded(seeds, listeners[0], replace(listeners[0], parent=teacher), replace(listeners[0], parent=teacher, alpha=0.0)),
        "skeptical places": seeded(side, *listeners[1:]),
        "secondary": seeded(side, *(replace(student, parent=first) for first in (replace(student, parent=nasty), listeners[0]))),
    }


def zero_shot_studies(size: Students) -> dict[str, list[Spec]]:
    """Students without data, the student of the same geometry with all of them, and how alike each is to its teacher."""
    seeds, side = range(min(size.few, size.seeds)), range(min(size.side, size.seeds))
    teacher, pair = usual_pair(size)
    zero = ZeroShotRun(
        parent=teacher, model=size.zero, beta=size.beta, noise=size.noise, width=size.width, rounds=size.rounds, recipe=size.zero_recipe
    )
    full = replace(pair, model=size.zero, method="soft attention", weight=size.maps)
    deaf = replace(zero, beta=0.0)
    nasty = NastyRun(parent=teacher, omega=size.omegas[0], temperature=size.taus[0])
    variants = [
        deaf,
        replace(zero, student_steps=5),
        replace(zero, generator_lr=zero.generator_lr / 3),
        replace(zero, noise=size.noise // 4),
    ]
    places = size.places if isinstance(size.zero, ResNetConfig) else ()
    free = [replace(deaf, parent=nasty), replace(deaf, parent=nasty, places=places)] if size.zero_variants > 1 else []
    return {
        "zero-shot": seeded(seeds, zero, full),
        "zero-shot sensitivity": seeded(side, *variants[: 1 if size.zero_variants <= 2 else None]),
        "zero-shot nasty": seeded(side, *free),
        "transitions": seeded(seeds, TransitionRun(parent=zero), TransitionRun(parent=full)),
    }
