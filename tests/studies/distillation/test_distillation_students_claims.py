"""Claims about students of a fixed teacher: each reads the runs it names."""

from dataclasses import replace

import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.studies.distillation.students import STUDENTS, student_studies
from lib.studies.distillation.students_names import student as called


def told(spec, **metrics):
    return Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, {}, {"device": "none", "data": {"name": "cifar10"}})


def sample(seeds=(0, 1)):
    """Every study of the CPU scale and those it leaves empty, each run with an accuracy that tells which one it is."""
    found = student_studies(replace(STUDENTS["cpu"], seeds=len(seeds), side=len(seeds)))
    accuracy = {
        "labels alone": 0.60,
        "Hinton KD": 0.63,
        "FitNets": 0.61,
        "CRD": 0.64,
        "DKD": 0.645,
        "DIST": 0.65,
        "logit standardisation": 0.66,
        "Hinton KD, T = 1": 0.62,
        "function matching, mixup": 0.67,
        "function matching": 0.655,
        "function matching, teacher sees plain images": 0.59,
        "Hinton KD of a teacher with smoothed labels": 0.58,
        "labels alone, smoothed": 0.81,
    }

    def metrics(study, spec):
        name = called(told(spec))
        value = 0.8 if study == "teacher" else accuracy.get(name, 0.45)
        return {"test_accuracy": value, "val_accuracy": value}

    return {study: Results(tuple(told(spec, **metrics(study, spec)) for spec in specs)) for study, specs in found.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        ("kd-student", 0.03),
        ("kd-temperature", 0.01),
        ("fitnets-kd", -0.02),
        ("fitnets-alone", 0.01),
        ("crd-alone", 0.04),
        ("crd-kd", 0.01),
        ("dkd-alone", 0.045),
        ("dkd-kd", 0.015),
        ("dist-alone", 0.05),
        ("dist-kd", 0.02),
        ("standardised-alone", 0.06),
        ("standardised-kd", 0.03),
        ("smoothing-teacher", 0.05),
        ("patient-labels", 0.07),
        ("patient-view", 0.065),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    assert reads(value)(sample()) == pytest.approx([expected] * 2)


def test_smoothing_changes_the_teacher_alone():
    """The two students differ in nothing but their teacher, and the usual ones are those of the other studies."""
    found = student_studies(STUDENTS["laptop"])
    hard, soft = (
        next(spec for spec in found["smoothing"] if called(told(spec)) == name)
        for name in ("Hinton KD", "Hinton KD of a teacher with smoothed labels")
    )
    assert replace(soft, parent=hard.parent) == hard and hard in found["methods"] and hard.parent in found["teacher"]
    assert hard.recipe.label_smoothing == soft.recipe.label_smoothing == 0.0 < soft.parent.recipe.label_smoothing


def test_claims_say_what_is_missing():
    empty = {name: Results(()) for name in sample()}
    with pytest.raises(NotTestable):
        reads("kd-student")(empty)
    untrained = sample()
    for name in ("methods", "alone"):
        untrained[name] = Results(tuple(replace(r, metrics={"test_accuracy": 0.1}) for r in untrained[name]))
    with pytest.raises(NotTestable, match="nothing was learnt"):
        reads("kd-student")(untrained)
