"""Claims about students of a fixed teacher: each reads the runs it names."""

from dataclasses import replace

import pytest

from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results
from lib.runs.spec import all_fields
from lib.studies.distillation import students_claims as claims
from lib.studies.distillation.students import STUDENTS, student_studies, zero_shot_studies
from lib.studies.distillation.students_names import student as called


def told(spec, **metrics):
    return Result(spec.experiment, spec.key, all_fields(spec), metrics, {}, {}, {"device": "none", "data": {"name": "cifar10"}})


def sample(seeds=(0, 1)):
    """Every study of the CPU scale and those it leaves empty, each run with an accuracy that tells which one it is."""
    size = replace(STUDENTS["cpu"], seeds=len(seeds), side=len(seeds), listeners=(0, 1), zero_variants=2)
    found = student_studies(size) | zero_shot_studies(size)
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
        "nasty teacher": 0.79,
        "function matching, teacher sees plain images": 0.59,
        claims.NASTY: 0.5,
        claims.SKEPTICAL: 0.585,
        "skeptical student": 0.6,
        claims.CONTROL: 0.59,
        "Hinton KD, α = 0.9": 0.625,
        "Hinton KD of a skeptical student, α = 0.9": 0.61,
        "Hinton KD of a student, α = 0.9": 0.55,
        "skeptical zero-shot student of a nasty teacher": 0.42,
        "zero-shot student of a nasty teacher, answers alone": 0.4,
        "Hinton KD of a teacher with smoothed labels": 0.58,
        "labels alone, smoothed": 0.81,
        "zero-shot student": 0.56,
        "zero-shot student, answers alone": 0.5,
        "Hinton KD and attention": 0.64,
    }
    errors = {"zero-shot student": 0.1, "Hinton KD and attention": 0.4}

    def metrics(study, spec):
        name = called(told(spec))
        if study == "transitions":
            return {"transition_error": errors[name], "test_agreement": 0.6}
        if study == "nasty gallery":
            return {
                "silhouette_features_normal": 0.5,
                "silhouette_features_nasty": 0.45,
                "silhouette_logits_normal": 0.6,
                "silhouette_logits_nasty": 0.2,
            }
        value = 0.8 if study == "teacher" else accuracy.get(name, 0.45)
        return {"test_accuracy": value, "val_accuracy": value}

    return {study: Results(tuple(told(spec, **metrics(study, spec)) for spec in specs)) for study, specs in found.items()}


@pytest.mark.parametrize(
    "value, expected",
    [
        ("hinton_minus_alone", 0.03),
        ("warm_minus_cold", 0.01),
        ("fitnets_minus_hinton", -0.02),
        ("fitnets_minus_alone", 0.01),
        ("crd_minus_alone", 0.04),
        ("crd_minus_hinton", 0.01),
        ("dkd_minus_alone", 0.045),
        ("dkd_minus_hinton", 0.015),
        ("dist_minus_alone", 0.05),
        ("dist_minus_hinton", 0.02),
        ("standardised_minus_alone", 0.06),
        ("standardised_minus_hinton", 0.03),
        ("hard_teacher_minus_smoothed", 0.05),
        ("patient_minus_labels", 0.07),
        ("same_view_minus_fixed", 0.065),
        ("nasty_minus_normal", -0.01),
        ("nasty_student_minus_alone", -0.1),
        ("best_nasty_student_minus_alone", -0.015),
        ("features_moved_over_logits", 0.125),
        ("skeptical_minus_plain", 0.085),
        ("skeptical_minus_control", -0.005),
        ("skeptical_of_normal_minus_plain", -0.025),
        ("secondary_of_skeptical_minus_plain", 0.06),
        ("skeptical_without_data", 0.02),
        ("zero_shot_minus_full", -0.08),
        ("zero_shot_accuracy", 0.56),
        ("attention_minus_answers", 0.06),
        ("transition_error_over_full", 0.25),
    ],
)
def test_claims_read_the_runs_they_name(value, expected):
    found = getattr(claims, value)(sample())
    assert found == pytest.approx([expected] * (1 if value == "features_moved_over_logits" else 2))


def test_the_best_student_is_one_that_all_seeds_have():
    found = sample()
    first = found["skeptical places"][0]
    lucky = replace(first, metrics={"test_accuracy": 0.99, "val_accuracy": 0.99})
    assert lucky.fields["seed"] == 0 and lucky.spec["parent"]["type"] == "NastyRun"
    found["skeptical places"] = Results((lucky,))
    assert claims.best_nasty_student_minus_alone(found) == pytest.approx([-0.015] * 2)


def test_the_best_student_is_chosen_on_the_other_seeds():
    """What gains on one seed alone, by chance, is not what that seed is judged by."""
    found = sample()
    first, second = (found["skeptical"].where(seed=seed) for seed in (0, 1))
    chance = {
        seed: [replace(r, metrics={"test_accuracy": 0.9, "val_accuracy": 0.9}) if called(r) == name else r for r in runs]
        for (seed, runs), name in zip(((0, first), (1, second)), (claims.SKEPTICAL, claims.SKEPTICAL))
    }
    found["skeptical"] = Results((*chance[0], *second))
    # With seed 0 far ahead, seed 1 is judged by that student, and seed 0 by what is best on seed 1.
    assert claims.best_nasty_student_minus_alone(found)[1] == pytest.approx(-0.015)


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
    for value in (
        claims.hinton_minus_alone,
        claims.best_nasty_student_minus_alone,
        claims.zero_shot_accuracy,
        claims.transition_error_over_full,
        claims.features_moved_over_logits,
    ):
        with pytest.raises(NotTestable):
            value(empty)
    untrained = sample()
    for name in ("methods", "alone"):
        untrained[name] = Results(tuple(replace(r, metrics={"test_accuracy": 0.1}) for r in untrained[name]))
    with pytest.raises(NotTestable, match="nothing was learnt"):
        claims.hinton_minus_alone(untrained)
