"""The distillation chapter's runs for other chapters: a network from labels and its student, their sizes, and how they are named."""

from lib.studies.distillation.pairs import (
    Config,
    PairRun,
    PlainRun,
    TaughtRun,
    against,
    answers,
    distortion,
    network,
    own_seed,
    sizes,
)
from lib.studies.distillation.students import FAST, SMALL, STUDENTS, Students, adam, for_images, on_other_data, sized_students, usual_pair
from lib.studies.distillation.students_names import student, taught_by

__all__ = [
    "FAST",
    "SMALL",
    "STUDENTS",
    "Config",
    "PairRun",
    "PlainRun",
    "Students",
    "TaughtRun",
    "adam",
    "against",
    "answers",
    "distortion",
    "for_images",
    "network",
    "on_other_data",
    "own_seed",
    "sized_students",
    "sizes",
    "student",
    "taught_by",
    "usual_pair",
]
