"""The values behind our column beside the student projects' tables: functions that ``data/projects.yml`` names.

Each takes studies (name → Results) of the table's chapter, and what the row gives it, and returns one number per seed in
the unit's base (accuracies and shares are fractions, parameters are counted one by one), or raises
:class:`lib.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from lib import measure
from lib.experiments import elastic_claims, elastic_names, growth_claims, moe_claims
from lib.experiments.growth_names import ordered
from lib.experiments.pruning_names import OURS, method
from lib.experiments.pruning_pairs import TEST, difference
from lib.models.vit import ViT, seed_geometry
from lib.results import Result, Results
from lib.statistics import NotTestable, why

Studies = Mapping[str, Results]

#: Name in ``data/projects.yml`` → function.
VALUES: dict[str, Callable[..., list[float]]] = {}


def value(function: Callable) -> Callable:
    """Make a function known to ``data/projects.yml`` by its name."""
    VALUES[function.__name__] = function
    return function


def metric(runs: Results, name: str) -> list[float]:
    """The metric of each run; NotTestable where there is no run."""
    if not runs:
        raise NotTestable(f"no such run is stored at this scale{why(runs)}")
    return [run.metrics[name] for run in runs]


# Switch-ViT

def vit(studies: Studies, experts: int | None) -> Results:
    runs = studies["accuracy"]
    return moe_claims.dense(runs) if experts is None else moe_claims.switch(runs, experts=experts)


@value
def switch_vit_accuracy(studies: Studies, experts: int | None = None) -> list[float]:
    return metric(vit(studies, experts), TEST)


@value
def switch_minus_dense(studies: Studies, experts: int) -> list[float]:
    return moe_claims.difference(vit(studies, experts), vit(studies, None))


@value
def random_network_minus_dense(studies: Studies) -> list[float]:
    runs = studies["random"]
    return moe_claims.difference(moe_claims.routed(runs, "whole-network"), moe_claims.dense(runs))


@value
def ewa_minus_dense(studies: Studies) -> list[float]:
    return moe_claims.ewa_merged_minus_dense(studies)


@value
def epochs_to_threshold(studies: Studies, experts: int | None = None) -> list[float]:
    runs = vit(studies, experts)
    reached = metric(runs, "epoch_at_threshold")
    if None in reached:
        raise NotTestable(f"not every run reaches that accuracy in its {runs[0].fields['recipe.epochs']} epochs")
    return reached


@value
def switch_vit_parameters(studies: Studies, experts: int | None = None) -> list[float]:
    """Of the project's geometry, of which nothing is computed but the sizes."""
    with torch.device("meta"):
        return [measure.parameters(ViT(seed_geometry(experts)))]


@value
def epoch_seconds(studies: Studies, experts: int | None = None) -> list[float]:
    return metric(vit(studies, experts), "train_seconds_per_50k")


@value
def test_seconds(studies: Studies, experts: int | None = None) -> list[float]:
    return metric(vit(studies, experts), "test_seconds_per_10k")


def timed(studies: Studies, experts: int, backend: str) -> Results:
    return studies["steps"].where(moe__experts=experts, moe__backend=backend)


@value
def step_ratio(studies: Studies, experts: int, backend: str = "auto") -> list[float]:
    return metric(timed(studies, experts, backend), "train_ratio")


@value
def inference_ratio(studies: Studies, experts: int, backend: str = "auto") -> list[float]:
    return metric(timed(studies, experts, backend), "test_ratio")


# The elastic mixture

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
    """Those of this name in chapter 2."""
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


# The growing model

@value
def phase_parameters(studies: Studies, phase: str) -> list[float]:
    return metric(studies["presets"], f"parameters_{phase}")


@value
def phase_active(studies: Studies, phase: str) -> list[float]:
    return metric(studies["presets"], f"active_parameters_{phase}")


@value
def phase_active_share(studies: Studies, phase: str) -> list[float]:
    return [active / all_ for active, all_ in zip(phase_active(studies, phase), phase_parameters(studies, phase))]


def after(studies: Studies, transition: int) -> Results:
    """The phase of our pipeline in the project's order that begins with this transition, 1 to 3."""
    runs = studies["pipeline"]
    return Results(tuple(run for run in runs if ordered(run.spec) == growth_claims.PROJECT_ORDER[:transition]), runs.missing)


@value
def change_at_transition(studies: Studies, transition: int) -> list[float]:
    runs = after(studies, transition)
    return [late - early for late, early in zip(metric(runs, "loss_after"), metric(runs, "loss_before"))]


@value
def change_by_fault(studies: Studies) -> list[float]:
    return growth_claims.tied_fault_spike(studies)


@value
def gain_of_last_phase(studies: Studies) -> list[float]:
    """Validation loss at the end of phase 4 minus that at the end of phase 3, in nats per token."""
    third, fourth = ({run.fields["seed"]: run.metrics["val_loss"] for run in after(studies, step)} for step in (2, 3))
    return difference(fourth, third, studies["pipeline"])


# The pruned VGG

def own_recipe(run: Result, structure: str) -> bool:
    return method(run).startswith(OURS) and run.spec["plan"]["structure"] == structure


def near(density: float, ratio: float) -> bool:
    return abs(density * ratio - 1) < 0.02


def pruned(studies: Studies, ratio: float, structure: str = "unstructured") -> dict[int, float]:
    """Test accuracies of our recipe at this ratio, by seed."""
    return {run.fields["seed"]: run.metrics[TEST] for run in studies["ratios"]
            if own_recipe(run, structure) and near(run.spec["plan"]["density"], ratio)}


def there(found: dict[int, float], what: str, runs: Results) -> list[float]:
    if not found:
        raise NotTestable(f"no {what} at this scale{why(runs)}")
    return list(found.values())


@value
def pruned_to(studies: Studies, ratio: float, structure: str = "unstructured") -> list[float]:
    return there(pruned(studies, ratio, structure), f"network was pruned to {ratio:g}×", studies["ratios"])


@value
def lost_between(studies: Studies, first: float, second: float) -> list[float]:
    return difference(pruned(studies, second), pruned(studies, first), studies["ratios"])


def is_coded(spec: Mapping, bits: int, sections: int) -> bool:
    """A network of our recipe that got codes after pruning."""
    return (spec.get("bits") == bits and "grid" in spec and spec["grid"][0] * spec["grid"][1] == sections
            and spec["density"] is None and bool(spec["parent"].get("rest")))


def coded(runs: Iterable[Result], bits: int, sections: int, ratio: float | None = None) -> list[Result]:
    """Quantized networks at this ratio, or at the highest that was coded."""
    found = [run for run in runs if is_coded(run.spec, bits, sections)]
    return at_ratio(found, lambda run: run.spec["parent"], ratio)


def coded_files(runs: Iterable[Result], bits: int, sections: int, ratio: float | None = None) -> list[Result]:
    """The same for the files of such networks, with norms as they are."""
    found = [run for run in runs if run.spec["norm_bits"] is None and is_coded(run.spec["parent"], bits, sections)]
    return at_ratio(found, lambda run: run.spec["parent"]["parent"], ratio)


def at_ratio(runs: list[Result], pruned_by: Callable[[Result], Mapping], ratio: float | None) -> list[Result]:
    least = min((pruned_by(run)["plan"]["density"] for run in runs), default=None)
    return [run for run in runs if (near(pruned_by(run)["plan"]["density"], ratio) if ratio
                                    else pruned_by(run)["plan"]["density"] == least)]


@value
def coded_at(studies: Studies, ratio: float, bits: int, sections: int) -> list[float]:
    found = {run.fields["seed"]: run.metrics[TEST] for run in coded(studies["quantize"], bits, sections, ratio)}
    return there(found, f"network pruned to {ratio:g}× got codes of {bits} bits", studies["quantize"])


@value
def lost_by_codes(studies: Studies, bits: int, sections: int) -> list[float]:
    found = coded(studies["quantize"], bits, sections)
    with_codes = {run.fields["seed"]: run.metrics[TEST] for run in found}
    before = pruned(studies, 1 / found[0].spec["parent"]["plan"]["density"]) if found else {}
    return difference(with_codes, before, studies["quantize"], studies["ratios"])


@value
def size_of_pruned(studies: Studies, ratio: float, structure: str = "unstructured") -> list[float]:
    runs = studies["files"]
    found = {run.fields["seed"]: run.metrics["weights_ratio"] for run in runs if run.spec["parent"].get("rest")
             and run.spec["parent"]["plan"]["structure"] == structure and near(run.spec["parent"]["plan"]["density"], ratio)}
    return there(found, f"file was written of a network pruned to {ratio:g}×", runs)


@value
def size_of_coded(studies: Studies, ratio: float, bits: int, sections: int) -> list[float]:
    found = {run.fields["seed"]: run.metrics["weights_ratio"]
             for run in coded_files(studies["files"], bits, sections, ratio)}
    return there(found, f"file was written of a network pruned to {ratio:g}× with codes of {bits} bits", studies["files"])


@value
def real_share(studies: Studies, bits: int, sections: int) -> list[float]:
    found = {run.fields["seed"]: run.metrics["weights_ratio"] / run.metrics["claimed_ratio"]
             for run in coded_files(studies["files"], bits, sections)}
    return there(found, f"file was written with codes of {bits} bits", studies["files"])
