"""The values behind the teachers chapter's claims on nasty teachers, skeptical students and students without images.

Each function takes the studies that its claim names (study → Results) and returns one value per seed in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lib.measure.statistics import NotTestable, why
from lib.runs.results import Result, Results
from lib.studies.base import seeds
from lib.studies.base.elsewhere import chosen_elsewhere
from lib.studies.teachers.names import student

Studies = Mapping[str, Results]

#: A network that is right less often than this has learnt too little for a comparison to mean anything.
LEAST_ACCURACY = 0.3

TEST = "test_accuracy"
NASTY = "Hinton KD of a nasty teacher, α = 0.9"


def by_seed(runs: Iterable[Result], name: str, metric: str = TEST) -> dict[int, float]:
    """A metric of the runs of this name, by seed."""
    return seeds.by_seed(runs, name, student, lambda r: r.metrics.get(metric))


# Nasty teachers


def best_nasty_student_minus_alone(studies: Studies) -> list[float]:
    """The gain over its own baseline of the student of a nasty teacher, whatever it is made of and however it listens, that gains
    most on validation images with the other seeds.  Only students that all seeds have.
    """
    every = [run for runs in studies.values() for run in runs]
    alone = {(r.fields["seed"], geometry(r), r.spec["train_examples"]): r.metrics for r in every if r.experiment == "distillation-plain"}
    gains: dict[str, dict[int, tuple[float, float]]] = {}
    for run in every:
        if run.spec.get("parent", {}).get("type") == "NastyRun" and run.experiment in ("distillation-pair", "distillation-skeptical"):
            base = alone.get((run.fields["seed"], geometry(run), run.spec["train_examples"]))
            if base is not None and max(base[TEST], run.metrics[TEST]) >= LEAST_ACCURACY:
                gains.setdefault(configuration(run), {})[run.fields["seed"]] = tuple(
                    run.metrics[name] - base[name] for name in ("val_accuracy", TEST)
                )
    if not gains:
        raise NotTestable(f"no student of a nasty teacher has a baseline that learnt anything{why(*studies.values())}")
    every_seed = set().union(*gains.values())
    common = {name: found for name, found in gains.items() if len(found) == len(every_seed)}
    if not common:
        raise NotTestable(f"no student of a nasty teacher was trained with every seed{why(*studies.values())}")
    return list(chosen_elsewhere(common).values())


def configuration(run: Result) -> str:
    """A run's settings and those of all it builds on, without seeds."""

    def unseeded(value: object) -> object:
        if isinstance(value, Mapping):
            return sorted((name, str(unseeded(part))) for name, part in value.items() if name != "seed")
        return value

    return f"{run.experiment} {unseeded(run.spec)}"


def geometry(run: Result) -> str:
    return str(sorted(run.spec["model"].items(), key=str))


def features_moved_over_logits(studies: Studies) -> list[float]:
    """How much less the classes stand apart in the features of the nasty teacher than in the normal one's, as a part of
    the same for the logits: differences of silhouettes.
    """
    found = []
    for run in studies["nasty gallery"]:
        moved = {
            what: run.metrics[f"silhouette_{what}_normal"] - run.metrics[f"silhouette_{what}_nasty"] for what in ("features", "logits")
        }
        if moved["logits"] > 0:
            found.append(moved["features"] / moved["logits"])
    if not found:
        raise NotTestable(
            "the classes stand as far apart in the nasty teacher's logits as in the normal one's" + why(studies["nasty gallery"])
        )
    return found


# Zero-shot


def transition_error_over_full(studies: Studies) -> list[float]:
    """Where both students agree with their teacher often enough to have learnt something."""
    runs = Results(
        tuple(r for r in studies["transitions"] if r.metrics["test_agreement"] >= LEAST_ACCURACY), studies["transitions"].missing
    )
    if len(studies["transitions"]) and not len(runs):
        raise NotTestable("no student agrees with its teacher on three images in ten: there are no beliefs to compare")
    pairs = seeds.paired(
        by_seed(runs, "zero-shot student", "transition_error"), by_seed(runs, "Hinton KD and attention", "transition_error"), runs
    )
    counted = [zero / full for zero, full in pairs if full]
    if not counted:
        raise NotTestable("a student with all data is exactly like its teacher: no error to compare with")
    return counted
