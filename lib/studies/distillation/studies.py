"""Distillation: what is run, and at which size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.data.images import check_name
from lib.runs.spec import Spec
from lib.studies.base.images import other_shape
from lib.studies.base.parameters import ChapterParameters
from lib.studies.distillation.methods import METHODS
from lib.studies.distillation.networks import NETWORKS, Networks, network_studies
from lib.studies.distillation.stories_sizes import STORIES, story_studies
from lib.studies.distillation.students import STUDENTS, Students, for_images, sized_students, student_studies, usual_pair
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
    found = {name: [with_knobs(spec, parameters) for spec in specs] for name, specs in student_studies(students).items()}
    stories = STORIES[parameters.scale] if parameters.seeds is None else replace(STORIES[parameters.scale], seeds=parameters.seeds)
    return found | network_studies(networks, usual_pair(students)[0]) | story_studies(stories)


def with_knobs(spec: Spec, parameters: Parameters) -> Spec:
    """The run with the reader's temperature and α where it is Hinton's distillation as usual."""
    if getattr(spec, "method", None) != "hinton" or (spec.temperature, spec.alpha) != (None, None):
        return spec
    usual = Parameters()
    changed = {name: getattr(parameters, name) for name in ("temperature", "alpha") if getattr(parameters, name) != getattr(usual, name)}
    return replace(spec, **changed)


def sized(parameters: Parameters) -> tuple[Students, Networks]:
    """The scale's sizes with the reader's knobs applied."""
    students = sized_students(STUDENTS[parameters.scale], parameters.dataset, parameters.epochs, parameters.seeds)
    networks = NETWORKS[parameters.scale]
    if parameters.dataset not in (None, networks.dataset):
        networks = networks_on(networks, parameters.dataset)
    if parameters.chosen is not None:
        students = replace(students, methods=parameters.chosen)
    if parameters.seeds is not None:
        networks = replace(networks, seeds=parameters.seeds, side=parameters.seeds)
    return students, networks


def networks_on(size: Networks, dataset: str) -> Networks:
    """Return the sizes for another data set.  Texts stay what they are."""
    fields = other_shape(dataset, size.dataset)
    mixture = replace(size.mixture, dataset=dataset, **({"patch": None, **fields} if fields else {}))
    return replace(for_images(size, dataset), dataset=dataset, mixture=mixture, teacher=None)
