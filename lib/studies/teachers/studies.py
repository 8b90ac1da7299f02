"""Hostile, absent and inner teachers: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.images import check_name
from lib.models.resnet import ResNetConfig
from lib.runs.spec import Spec
from lib.studies.base.parameters import ChapterParameters
from lib.studies.base.seeds import seeded
from lib.studies.distillation.api import Students, on_other_data, sized_students, usual_pair
from lib.studies.teachers.exits import ExitRun, ExitSearch
from lib.studies.teachers.nasty import GalleryRun, NastyRun
from lib.studies.teachers.sizes import EXITS, HOSTILE, PAIRS, Exits, Hostile, exits_on, hostile_on
from lib.studies.teachers.skeptical import SkepticalRun
from lib.studies.teachers.zero_shot import TransitionRun, ZeroShotRun
from lib.system.checks import require

#: What students of a nasty teacher take from it, as its authors have it.
NASTY_ALPHA = 0.9


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None  # of students of a fixed teacher

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            check_name(self.dataset)
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    students, hostile, exits = sized(parameters)
    teacher, _ = usual_pair(students)
    return {
        "teacher": seeded(range(students.seeds), teacher),
        "alone": seeded(range(students.seeds), replace(teacher, model=students.student, recipe=students.second)),
        **nasty_studies(hostile, students),
        **zero_shot_studies(*without_images(hostile, students)),
        **exit_studies(exits),
    }


def sized(parameters: Parameters) -> tuple[Students, Hostile, Exits]:
    """The scale's sizes with the reader's knobs applied."""
    scale, dataset, seeds = parameters.scale, parameters.dataset, parameters.seeds
    students, hostile, exits = sized_students(PAIRS[scale], dataset, parameters.epochs, seeds), HOSTILE[scale], EXITS[scale]
    if dataset not in (None, exits.dataset):
        hostile = replace(hostile_on(hostile, dataset, exits.dataset), zero_dataset=None)
        exits = exits_on(exits, dataset)
    if seeds is not None:
        hostile, exits = replace(hostile, few=seeds), replace(exits, seeds=seeds, side=seeds)
    return students, hostile, exits


def without_images(size: Hostile, students: Students) -> tuple[Hostile, Students]:
    """The sizes of zero-shot students: where they have a data set of their own, networks for its images.

    A nasty teacher of theirs is the authors', ω = 0.04: what the other images' teachers need to be nasty says nothing of it.
    """
    if size.zero_dataset in (None, students.dataset):
        return size, students
    moved = replace(on_other_data(students, size.zero_dataset), train_examples=students.train_examples)
    return replace(hostile_on(size, size.zero_dataset, students.dataset), omegas=(NastyRun.omega,)), moved


def seeds_of(size: Hostile, students: Students) -> tuple[range, range]:
    """Seeds of the main and of the side studies."""
    return range(min(size.few, students.seeds)), range(min(students.side, students.seeds))


def nasty_studies(size: Hostile, students: Students) -> dict[str, list[Spec]]:
    """A nasty teacher, its students and those of the normal one, ablations, and skeptical students."""
    seeds, side = seeds_of(size, students)
    teacher, pair = usual_pair(students)
    alone = replace(teacher, model=students.student, recipe=students.second)
    nasty = NastyRun(parent=teacher, omega=size.omegas[0], temperature=size.taus[0])
    student = replace(pair, temperature=4.0, alpha=NASTY_ALPHA)
    whole = students.train_examples or {"digits": 1200, "mnist": 55_000}.get(students.dataset, 45_000)
    own = students.student if isinstance(students.student, ResNetConfig) else students.teacher
    skeptical = SkepticalRun(parent=nasty, model=own, places=size.places, recipe=students.second, train_examples=students.train_examples)
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


def zero_shot_studies(size: Hostile, students: Students) -> dict[str, list[Spec]]:
    """Students without data, the student of the same geometry with all of them, and how alike each is to its teacher."""
    seeds, side = seeds_of(size, students)
    teacher, pair = usual_pair(students)
    zero = ZeroShotRun(
        parent=teacher, model=size.zero, beta=size.beta, noise=size.noise, width=size.width, rounds=size.rounds, recipe=size.zero_recipe
    )
    full = replace(pair, model=size.zero, method="soft attention", weight=students.maps)
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


def exit_studies(size: Exits) -> dict[str, list[Spec]]:
    """A network with exits and the plain one, its references, parts and places, and the thresholds at which images leave."""
    plain = ExitRun(
        dataset=size.dataset,
        train_examples=size.examples,
        model=size.model,
        recipe=size.recipe,
        augmentation=size.augmentation,
    )
    own = replace(plain, places=size.places)
    seeds, side = range(size.seeds), range(min(size.side, size.seeds))
    population, generations = size.search
    parts = replace(own, alpha=0.0, weight=0.0), replace(own, weight=0.0), replace(own, attention=False)
    return {
        "self": seeded(seeds, plain, own),
        "self longer": seeded(seeds, replace(plain, recipe=replace(size.recipe, epochs=2 * size.recipe.epochs))),
        "references": seeded(side, *(replace(own, reference=name) for name in ("ensemble", "transitive", "dense"))),
        "self parts": seeded(side, *parts[: size.parts]),
        "places": seeded(side, *(replace(own, places=places) for places in size.other_places)),
        "thresholds": seeded(seeds, ExitSearch(parent=own, population=population, generations=generations)),
    }
