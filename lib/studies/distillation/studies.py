"""Distillation: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lib.data.images import check_name
from lib.models.vit import ViTConfig
from lib.runs.spec import Spec
from lib.studies.base.images import SHAPES, other_shape
from lib.studies.base.parameters import ChapterParameters
from lib.studies.distillation.methods import METHODS
from lib.studies.distillation.nasty import NastyRun
from lib.studies.distillation.networks import NETWORKS, Networks, network_studies
from lib.studies.distillation.students import STUDENTS, Students, student_studies, usual_pair, zero_shot_studies
from lib.system.checks import one_of, require


@dataclass(frozen=True, kw_only=True)
class Parameters(ChapterParameters):
    """The chapter's knobs.  A knob left at None follows the scale."""

    dataset: str | None = None  # digits | mnist | cifar10 | cifar100
    epochs: int | None = None  # of students of a fixed teacher; the patient ones' follow in proportion
    methods: str | None = None  # those that are compared, names separated by commas
    temperature: float = 4.0  # of Hinton's distillation, wherever it is not swept
    alpha: float = 0.7  # the teacher's share of its loss

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset is not None:
            check_name(self.dataset)
        require(self.epochs is None or self.epochs >= 1, f"epochs must be at least 1, not {self.epochs}")
        require(self.temperature > 0, f"temperature is {self.temperature}: it must be above 0")
        require(0 <= self.alpha <= 1, f"alpha is {self.alpha}: it must be in [0, 1], the teacher's share of the loss")
        for name in self.chosen or ():
            one_of("methods", name, METHODS)

    @property
    def chosen(self) -> tuple[str, ...] | None:
        return None if self.methods is None else tuple(part.strip() for part in self.methods.split(","))


def studies(parameters: Parameters) -> dict[str, list[Spec]]:
    """The Specs of each study by name; see the chapter for what each shows."""
    students, networks = sized(parameters)
    found = student_studies(students) | zero_shot_studies(without_images(students))
    found = {name: [with_knobs(spec, parameters) for spec in specs] for name, specs in found.items()}
    return found | network_studies(networks, usual_pair(students)[0])


def without_images(students: Students) -> Students:
    """The sizes of zero-shot students: where they have a data set of their own, networks for its images.

    A nasty teacher of theirs is the authors', ω = 0.04: what the other images' teachers need to be nasty says nothing of it.
    """
    if students.zero_dataset in (None, students.dataset):
        return students
    moved = on_other_data(students, students.zero_dataset)
    return replace(moved, train_examples=students.train_examples, omegas=(NastyRun.omega,))


def with_knobs(spec: Spec, parameters: Parameters) -> Spec:
    """The run with the reader's temperature and α where it is Hinton's distillation as usual."""
    if getattr(spec, "method", None) != "hinton" or (spec.temperature, spec.alpha) != (None, None):
        return spec
    usual = Parameters()
    changed = {name: getattr(parameters, name) for name in ("temperature", "alpha") if getattr(parameters, name) != getattr(usual, name)}
    return replace(spec, **changed)


def sized(parameters: Parameters) -> tuple[Students, Networks]:
    """The scale's sizes with the reader's knobs applied."""
    students, networks = STUDENTS[parameters.scale], NETWORKS[parameters.scale]
    if parameters.dataset not in (None, students.dataset):
        students, networks = (on_other_data(size, parameters.dataset) for size in (students, networks))
        students = replace(students, zero_dataset=None)
    if parameters.epochs is not None:
        longer = parameters.epochs / students.second.epochs
        students = replace(students, second=replace(students.second, epochs=parameters.epochs), long=max(1, round(longer * students.long)))
    if parameters.chosen is not None:
        students = replace(students, methods=parameters.chosen)
    if parameters.seeds is not None:
        students = replace(students, seeds=parameters.seeds, few=parameters.seeds, side=parameters.seeds)
        networks = replace(networks, seeds=parameters.seeds, side=parameters.seeds)
    return students, networks


def on_other_data(size: Any, dataset: str) -> Any:
    """A scale's sizes for another data set: networks for its images and classes, and its own number of images.

    Weights of attention terms follow the size of the maps; nasty teachers of 100 classes take the authors' ω = 0.005 and
    τ = 20.  Texts stay what they are.
    """
    side, channels = SHAPES[dataset]
    classes = 100 if dataset == "cifar100" else 10
    changes: dict[str, Any] = {"dataset": dataset}
    for name, value in vars(size).items():
        if isinstance(value, ViTConfig):
            patch = value.patch if side % value.patch == 0 else 4 if side % 4 == 0 else 2
            changes[name] = replace(value, image_size=side, channels=channels, classes=classes, patch=patch)
        elif hasattr(value, "channels") and hasattr(value, "classes"):
            changes[name] = replace(value, channels=channels, classes=classes)
        elif name == "others":
            changes[name] = tuple(replace(model, channels=channels, classes=classes) for model in value)
    if isinstance(size, Students):
        # Means over positions stand behind the attention terms' weights.
        share = (side / SHAPES[size.dataset][0]) ** 2
        changes |= {name: share * getattr(size, name) for name in ("maps", "beta")}
        if dataset == "cifar100":
            changes |= {"omegas": tuple(omega / 8 for omega in size.omegas), "taus": tuple(5 * tau for tau in size.taus)}
    fields = other_shape(dataset, size.dataset)
    own = {"train_examples": "exit_examples", "augmentation": "exit_augmentation"} if isinstance(size, Networks) else {}
    changes |= {own.get(name, name): value for name, value in fields.items()}
    if isinstance(size, Networks):
        changes["mixture"] = replace(size.mixture, dataset=dataset, **({"patch": None, **fields} if fields else {}))
    return replace(size, **changes)
