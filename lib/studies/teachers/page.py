"""The teachers chapter's runs as its cells pick them, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.measure.statistics import amount, number, percent, points
from lib.runs.results import Result, Results
from lib.studies.base.picked import column, gains, grouped
from lib.studies.teachers.names import method, student

#: Who taught a secondary student's teacher's students, by the type of its run.
KINDS = {"PairRun": "an ordinary student", "SkepticalRun": "a skeptical student"}


def named(results: Iterable[Result], *names: str) -> list[Result]:
    """Return the runs of these methods."""
    return [r for r in results if method(r) in names]


def over(runs: Iterable[Result], base: Iterable[Result]) -> str:
    """Return the gain over the base, paired by seed; a dash where they share no seed."""
    found = gains(runs, base)
    return points(found) if found else "–"


def times_as_long(runs: Iterable[Result], base: Iterable[Result]) -> float:
    """Return the mean seconds of training over the base's."""
    return np.mean(column(runs, "train_seconds")) / np.mean(column(base, "train_seconds"))


def nasty_table(teachers: Results, nasty: Results, alone: Results, students: Results) -> pd.DataFrame:
    """Return a row per network: normal and nasty teacher, and what students learn from labels and from both; without runs, none."""
    rows = []
    if len(teachers):
        peaks = number(column(nasty, "normal_peaks")) if len(nasty) else "–"
        rows.append({"network": "normal teacher", "test accuracy": percent(column(teachers)), "peaks": peaks})
    if len(nasty):
        rows.append({"network": "nasty teacher", "test accuracy": percent(column(nasty)), "peaks": number(column(nasty, "peaks"))})
    for name, runs in (
        ("student from labels alone", alone),
        ("student of the normal teacher", named(students, "Hinton KD, α = 0.9")),
        ("student of the nasty teacher", named(students, "Hinton KD of a nasty teacher, α = 0.9")),
    ):
        if len(runs):
            worth = "–" if runs is alone else points(gains(runs, alone))
            rows.append({"network": name, "test accuracy": percent(column(runs)), "over labels alone": worth, "peaks": "–"})
    return pd.DataFrame(rows).fillna("–")


def strengths(runs: Iterable[Result], alone: Results) -> pd.DataFrame:
    """Return a row per ω and τ of the nasty teacher and T and α of its student; runs without such a teacher are left out."""

    def setting(r: Result) -> tuple[float, ...]:
        return r.spec["parent"]["omega"], r.spec["parent"]["temperature"], r.spec["temperature"], r.spec["alpha"]

    taught = {r.key: r for r in runs if r.spec.get("parent", {}).get("type") == "NastyRun"}.values()
    return pd.DataFrame(
        [
            dict(zip("ωτTα", map("{:g}".format, values)))
            | {
                "nasty teacher": percent(column(own, "teacher_accuracy")),
                "its student": percent(column(own)),
                "over labels alone": over(own, alone),
            }
            for values, own in sorted(grouped(taught, setting).items())
        ]
    )


def subject(r: Result) -> tuple[str, int]:
    """Return the network and the number of its images."""
    return str(r.spec["model"]), r.provenance["data"]["train"]


def otherwise(runs: Sequence[Result]) -> pd.DataFrame:
    """Return a row per network, number of images and method, against the same from labels alone."""
    from_labels = grouped([r for r in runs if r.experiment == "distillation-plain"], subject)
    rows = []
    for (network, images, name), own in grouped(runs, lambda r: (*subject(r), student(r))).items():
        if (network, images) in from_labels and own[0].experiment != "distillation-plain":
            rows.append(
                {
                    "network": f"{own[0].metrics['parameters']:,} parameters",
                    "images": f"{images:,}",
                    "method": name,
                    "test accuracy": percent(column(own)),
                    "over labels alone": over(own, from_labels[network, images]),
                }
            )
    return pd.DataFrame(rows)


def skeptical_table(runs: Sequence[Result], alone: Results) -> pd.DataFrame:
    """Return a row per student, with its ensemble and its shallow classifier where it has them."""
    rows = []
    for name in dict.fromkeys(student(r) for r in runs):
        own = named(runs, name)
        worth = points(gains(own, alone)) if name != "labels alone" else "–"
        row = {"student": name, "test accuracy": percent(column(own)), "over labels alone": worth}
        if ensemble := column(own, "test_accuracy_ensemble"):
            shallow = [r.arrays["test_accuracy_by_exit"][r.spec["listener"]] for r in own]
            row |= {"ensemble": percent(ensemble), "shallow": percent(shallow)}
        rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def secondary_students(runs: Results) -> pd.DataFrame:
    """Return a row per kind of teacher that itself was a student of the nasty one."""
    return pd.DataFrame(
        [
            {
                "its teacher": KINDS[kind],
                "that teacher": percent(column(own, "teacher_accuracy")),
                "secondary student": percent(column(own)),
            }
            for kind, own in grouped(runs, lambda r: r.spec["parent"]["type"]).items()
        ]
    )


def without_data(runs: Iterable[Result]) -> pd.DataFrame:
    """Return a row per student and setting of the game: test accuracy, agreement with the teacher."""

    def setting(run: Result) -> tuple[Any, ...]:
        spec = run.spec
        if run.experiment != "distillation-zero-shot":
            return student(run), "–", "–", "–", "–"
        return student(run), f"{spec['beta']:.3g}", spec["student_steps"], f"{spec['generator_lr']:.1e}", spec["noise"]

    keys = ("student", "β", "student steps", "generator's rate", "noise")
    return pd.DataFrame(
        [
            dict(zip(keys, values))
            | {"test accuracy": percent(column(own)), "agrees with its teacher": percent(column(own, "test_agreement"))}
            for values, own in grouped(runs, setting).items()
        ]
    )


def exits_table(results: Iterable[Result], called: Callable[[Result], str] = method) -> pd.DataFrame:
    """Return a row per network with classifiers at several depths: accuracies, parameters, seconds."""
    rows = []
    for name, runs in grouped(results, called).items():
        shallow = [accuracy for r in runs for accuracy in r.arrays["test_accuracy_by_exit"][-2:-1]]
        rows.append(
            {
                "network": name,
                "deepest": percent(column(runs)),
                "next to deepest": percent(shallow) if shallow else "–",
                "ensemble": percent(column(runs, "test_accuracy_ensemble")) if shallow else "–",
                "parameters": amount(runs[0].metrics["deployed_parameters"]),
                "trained": amount(runs[0].metrics["parameters"]),
                "seconds": f"{np.mean(column(runs, 'train_seconds')):.3g}",
            }
        )
    return pd.DataFrame(rows)


def sure_shares(searches: Iterable[Result]) -> pd.DataFrame:
    """Return by threshold of how many images the shallowest classifier is sure, and how often it is right about them."""
    sure = pd.DataFrame([row for r in searches for row in r.arrays["sure"] if row["exit"] == 1])
    return pd.DataFrame(
        [
            {
                "threshold": f"{limit:g}",
                "images": f"{part['share'].mean():.1%}",
                "right": f"{part['accuracy'].mean():.1%}" if part["accuracy"].notna().any() else "–",
            }
            for limit, part in sure.groupby("threshold")
        ]
    )
