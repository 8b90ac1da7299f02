"""The distillation chapter's runs as its cells pick them, its tables, and the frames that its figures draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from lib.distillation.attention_transfer import attention_loss
from lib.distillation.contrastive import Contrastive
from lib.distillation.decoupled import decoupled_loss
from lib.distillation.dist import dist_loss
from lib.distillation.fitnets import Hint
from lib.distillation.hinton import distillation
from lib.distillation.relational import relational_loss
from lib.distillation.taps import features
from lib.measure.statistics import amount, number, percent, points
from lib.models.resnet import ResNet, ResNetConfig
from lib.runs.results import Result
from lib.studies.base.picked import column, gains, grouped
from lib.studies.distillation.names import method
from lib.studies.distillation.students_names import student

#: What else a table of students may have: title, metric, how it is spelled.
More = tuple[str, str, Callable]

#: Teachers of the study of smoothed labels, as its table calls them.
TEACHERS = {"labels alone": "teacher, hard labels", "labels alone, smoothed": "teacher, smoothed labels"}


def named(results: Iterable[Result], *names: str) -> list[Result]:
    """Return the runs of these methods."""
    return [r for r in results if method(r) in names]


def of_hinton(results: Iterable[Result]) -> list[Result]:
    """Return the runs of Hinton's method, whatever their T and α."""
    return [r for r in results if r.spec.get("method") == "hinton"]


def softened(run: Result) -> tuple[float, float]:
    """Return T and α of a run of Hinton's method."""
    return run.spec["temperature"] or 4.0, 0.7 if run.spec["alpha"] is None else run.spec["alpha"]


def means(results: Iterable[Result], metric: str = "test_accuracy") -> dict[str, float]:
    """Return the mean of a metric by method."""
    return {name: float(np.mean(column(runs, metric))) for name, runs in grouped(results, method).items()}


def sweep(runs: Iterable[Result]) -> pd.DataFrame:
    """Return a row per T and a column per α with the test accuracy; of two runs of one seed the later one counts."""
    found: dict[tuple[float, float], dict[int, float]] = {}
    for r in runs:
        found.setdefault(softened(r), {})[r.fields["seed"]] = r.metrics["test_accuracy"]
    shares, rows = sorted({a for _, a in found}), []
    for T in sorted({T for T, _ in found}):
        told = {f"α = {a:g}": percent(found[T, a].values()) if (T, a) in found else "–" for a in shares}
        rows.append({"T": f"{T:g}"} | told)
    return pd.DataFrame(rows)


def students(runs: Iterable[Result], base: Sequence[Result], *more: More) -> pd.DataFrame:
    """Return a row per method: accuracy, gain over the base, agreement with the teacher, and ``more``."""
    runs, rows = list(runs), []
    for name in dict.fromkeys(student(r) for r in runs):
        own = named(runs, name)
        row = {"method": name, "test accuracy": percent(column(own))}
        if found := gains(own, base):
            row["over labels alone"] = points(found) if own[0].key != base[0].key else "–"
        if agrees := column(own, "test_agreement"):
            row["agrees with its teacher"] = percent(agrees)
        rows.append(row | {title: how(column(own, metric)) for title, metric, how in more if column(own, metric)})
    return pd.DataFrame(rows)


def longer(runs: Iterable[Result], base: Sequence[Result]) -> list[list[Result]]:
    """Return the runs of students by labels alone that were trained longer than the base, by length, the shortest first."""
    least = max((r.spec["recipe"]["epochs"] for r in base), default=0)
    found = grouped(runs, lambda r: r.spec["recipe"]["epochs"])
    return [found[epochs] for epochs in sorted(found) if epochs > least]


def longer_students(runs: Iterable[Result], base: Sequence[Result]) -> pd.DataFrame:
    """Return a row, as of :func:`students`, per longer training by labels alone."""
    return pd.DataFrame(
        [
            {
                "method": f"labels alone, {own[0].spec['recipe']['epochs']} epochs",
                "test accuracy": percent(column(own)),
                "over labels alone": points(gains(own, base)) if gains(own, base) else "–",
                "seconds": number(column(own, "train_seconds")),
            }
            for own in longer(runs, base)
        ]
    )


def by_step(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the validation ``accuracy`` of each student in the course of its run."""
    return pd.DataFrame(
        [
            {"method": student(r), "step": step + 1, "accuracy": value, "seed": r.fields["seed"]}
            for r in runs
            for step, value in enumerate(r.curves["val_accuracy"])
        ]
    )


def smoothed(runs: Sequence[Result]) -> pd.DataFrame:
    """Return a row per teacher, with and without smoothed labels, and per student."""
    rows = []
    for name in dict.fromkeys(student(r) for r in runs):
        if own := named(runs, name):
            apart = column(own, "test_divergence")
            rows.append(
                {
                    "network": TEACHERS.get(name, name),
                    "test accuracy": percent(column(own)),
                    "KL of teacher and student, nats": number(apart) if apart else "–",
                }
            )
    return pd.DataFrame(rows)


def change_of_teacher(before: Sequence[Result], taught: Sequence[Result]) -> str:
    """Return which network teaches the transformers, and why, where it is not that of the students before them; "" where it is, or without results.

    before: the runs of the teacher so far; taught: those of transformers, with or without a teacher
    """
    pupils = [r for r in taught if (r.spec["teacher"] or {}).get("model", {}).get("type") == "ResNetConfig"]
    if not before or not pupils:
        return ""
    old, new = before[0].spec["model"]["widths"], pupils[0].spec["teacher"]["model"]["widths"]
    many, few = (runs[0].provenance["data"]["train"] for runs in (before, pupils))
    if (old, many) == (new, few):
        return ""
    old, new = (", ".join(map(str, widths)) for widths in (old, new))
    once = {r.fields["seed"]: r.metrics["teacher_test_accuracy"] for r in pupils}  # several transformers have one teacher
    return f"""**Another teacher from here on.** Until now one network taught, of widths {old}, trained on {many:,} images and right about
        {percent(column(before))} of the test images. The transformers below have a smaller convolutional teacher, of widths {new}, trained on {few:,} images and right
        about {percent(once.values())}, and see these images themselves: on all images, {len(taught)} transformers would take too long without a
        GPU. Compare them with each other, not with the students above. Later sections have teachers of their own kinds, which they name."""


def transformers(runs: Iterable[Result]) -> pd.DataFrame:
    """Return a row per vision transformer by what taught it."""
    told = {
        "test accuracy": "test_accuracy",
        "class token": "test_accuracy_class",
        "distillation token": "test_accuracy_token",
        "agreement": "agreement",
        "teacher": "teacher_test_accuracy",
    }
    return pd.DataFrame(
        [
            {"student": name}
            | {title: percent(found) if (found := column(own, metric)) else "–" for title, metric in told.items()}
            | {"seconds": number(column(own, "train_seconds"))}
            for name, own in grouped(runs, method).items()
        ]
    )


def similarities(runs: Iterable[Result]) -> pd.DataFrame:
    """Return the ``cosine`` of class and distillation token by ``layer``."""
    return pd.DataFrame(
        [
            {"method": method(r), "seed": r.fields["seed"], "layer": layer, "cosine": value}
            for r in runs
            for layer, value in enumerate(r.arrays["similarity_by_layer"])
        ]
    )


def mixtures(runs: Iterable[Result], label: Callable[[str], str]) -> pd.DataFrame:
    """Return a row per network with experts or made from one; ``label`` writes its name as the book does."""
    return pd.DataFrame(
        [
            {
                "network": label(name),
                "test accuracy": percent(column(own)),
                "parameters": amount(own[0].metrics["parameters"]),
                "seconds": number(column(own, "train_seconds")),
            }
            for name, own in grouped(runs, method).items()
        ]
    )


def losses_at_places() -> dict[str, dict[str, float]]:
    """Return each method's loss, without its weight, by what it compares: two untrained networks, one batch of noise."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        noise, labels, order = torch.randn(8, 3, 16, 16), torch.arange(8), torch.arange(8)
        teacher = features(ResNet(ResNetConfig((8, 16), (2, 2))).train(), noise)
        learner = features(ResNet(ResNetConfig((4, 8), (1, 1))).train(), noise)
        found = {
            "features": {"FitNets": Hint(8, 16, 1)(learner, teacher, labels), "AT": attention_loss(learner.stages, teacher.stages)},
            "embedding": {
                "RKD": relational_loss(learner.pooled, teacher.pooled, 1.0, 2.0),
                "CRD": Contrastive(8, 16, 8)(learner, teacher, labels, order),
            },
            "logits": {
                "KD": distillation(learner.logits, teacher.logits, 4.0),
                "DKD": decoupled_loss(learner.logits, teacher.logits, labels),
                "DIST": dist_loss(learner.logits, teacher.logits),
            },
        }
    return {place: {name: value.item() for name, value in group.items()} for place, group in found.items()}


def cost(beliefs: Sequence[float], target: int) -> tuple[float, float]:
    """Return the probability of the target, and the cross-entropy."""
    found = torch.tensor(beliefs)
    return found[target].item(), cross_entropy(found.log()[None], torch.tensor([target])).item()
