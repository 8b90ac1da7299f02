"""Our values beside Switch-ViT's tables."""

from __future__ import annotations

from typing import Any

import torch

from lib.claims.project_base import Studies, metric, value
from lib.measure import cost as measure
from lib.measure.statistics import NotTestable
from lib.models.vit import ViT, seed_geometry
from lib.runs.results import Results
from lib.studies.moe import claims as moe_claims
from lib.studies.pruning.pairs import TEST


def vit(studies: Studies, experts: int | None) -> Results:
    runs = studies["accuracy"]
    return moe_claims.dense(runs) if experts is None else moe_claims.called(runs, "switch").where(moe__experts=experts)


@value
def switch_vit_accuracy(studies: Studies, experts: int | None = None) -> list[float]:
    return metric(vit(studies, experts), TEST)


@value
def switch_minus_dense(studies: Studies, experts: int) -> list[float]:
    return moe_claims.difference(vit(studies, experts), vit(studies, None))


@value
def random_network_minus_dense(studies: Studies) -> list[float]:
    runs = studies["random"]
    return moe_claims.difference(moe_claims.called(runs, "whole-network"), moe_claims.dense(runs))


@value
def ewa_minus_dense(studies: Studies) -> list[float]:
    runs = studies["random"]
    return moe_claims.difference(moe_claims.called(runs, "ewa"), moe_claims.dense(runs))


@value
def epochs_to_threshold(studies: Studies, experts: int | None = None) -> list[float]:
    runs = vit(studies, experts)
    reached: list[Any] = metric(runs, "epoch_at_threshold")  # none where it was not reached
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
