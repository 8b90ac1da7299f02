"""Our values beside the growing model's tables."""

from __future__ import annotations

from lib.claims.project_base import Studies, metric, value
from lib.runs.results import Results
from lib.studies.base.seeds import each_seed
from lib.studies.growth import claims as growth_claims
from lib.studies.growth.names import ordered
from lib.studies.pruning.pairs import difference


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
    return changes(after(studies, transition))


def changes(runs: Results) -> list[float]:
    return [late - early for late, early in zip(metric(runs, "loss_after"), metric(runs, "loss_before"))]


@value
def change_by_fault(studies: Studies) -> list[float]:
    return changes(growth_claims.called(studies["faults"], "width, tied fault"))


@value
def gain_of_last_phase(studies: Studies) -> list[float]:
    """Validation loss at the end of phase 4 minus that at the end of phase 3, in nats per token."""
    third, fourth = (each_seed(after(studies, step), lambda run: run.metrics["val_loss"], f"phase {step + 1}") for step in (2, 3))
    return difference(fourth, third, studies["pipeline"])
