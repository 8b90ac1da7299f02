"""Our values beside the elastic mixture's tables."""

from __future__ import annotations

from lib.claims.project_base import Studies, metric, value
from lib.runs.results import Results
from lib.studies.elastic import claims as elastic_claims
from lib.studies.elastic import names as elastic_names
from lib.studies.pruning.pairs import TEST


@value
def parameter_share(studies: Studies, size: str) -> list[float]:
    return share_of_large(studies, "parameters", size)


@value
def file_share(studies: Studies, size: str) -> list[float]:
    return share_of_large(studies, "bytes", size)


def share_of_large(studies: Studies, what: str, size: str) -> list[float]:
    runs = studies["extraction"]
    return [part / whole for part, whole in zip(metric(runs, f"{what}_{size}"), metric(runs, f"{what}_large"))]


@value
def latency_share(studies: Studies, size: str, batch: int) -> list[float]:
    return metric(studies["extraction"], f"latency_{batch}_{size}_ratio")


def in_phases(studies: Studies) -> Results:
    """The project's training: three phases, its weights of the loss, three passes a step."""
    return elastic_claims.sampled(studies["samplers"], "Weighted", phases=True, merge=False)


@value
def elastic_accuracy(studies: Studies, size: str) -> list[float]:
    return metric(in_phases(studies), f"test_accuracy_{size}")


@value
def elastic_minus_twin(studies: Studies, size: str) -> list[float]:
    runs, twins = in_phases(studies), studies["twins"]
    sizes = {run.metrics[f"size_{size}"] for run in runs}
    same = Results(tuple(run for run in twins if run.metrics["size_large"] in sizes), twins.missing)
    cut, alone = elastic_claims.scores(runs, f"test_accuracy_{size}"), elastic_claims.scores(same, "test_accuracy_large")
    return elastic_claims.decided(elastic_claims.minus(cut, alone), runs, same)


def baseline(studies: Studies, name: str) -> Results:
    """Those of this name in the elastic chapter."""
    runs = studies["baselines"]
    return Results(tuple(run for run in runs if elastic_names.method(run) == name), runs.missing)


@value
def cnn_accuracy(studies: Studies, size: str) -> list[float]:
    return metric(baseline(studies, f"CNN, {size}"), TEST)


@value
def pruned_accuracy(studies: Studies) -> list[float]:
    return metric(baseline(studies, "pruning"), TEST)


@value
def distilled_accuracy(studies: Studies) -> list[float]:
    return metric(baseline(studies, "distillation"), TEST)
