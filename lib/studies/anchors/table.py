"""The anchors as frames: what each reached, and its way there."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from lib.runs.results import Result, Results
from lib.studies.anchors.recipes import recipes

#: FLOPs of a training step per image over those of a forward pass: the backward pass costs twice as much.
TRAINING = 3


def reached(results: Results, scale: str) -> pd.DataFrame:
    """Return a row per run: ``name``, ``parameters``, ``flops`` of one image, accuracies, and what training took.

    That is ``work``, in TFLOPs, and ``minutes``, on the machine of the run, evaluation left out.
    """
    called = names(results, scale)
    return pd.DataFrame(
        [
            result.metrics
            | {
                "name": called[result.key],
                "work": len(result.curves["val_accuracy"]) * work_of_an_epoch(result) / 1e12,
                "minutes": result.metrics["train_seconds"] / 60,
            }
            for result in results
        ]
    )


def fewest_to_most(values: pd.Series) -> str:
    """Return ``9 to 37``: times of a machine that did other work too have no mean worth reading."""
    fewest, most = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in (values.min(), values.max()))
    return fewest if fewest == most else f"{fewest} to {most}"


def ways(results: Results, scale: str) -> pd.DataFrame:
    """Return a row per run and epoch: ``name``, ``work`` (FLOPs of training so far, in units of 10¹²), ``val_accuracy``."""
    called = names(results, scale)
    return pd.DataFrame(
        [
            {"name": called[result.key], "work": (epoch + 1) * work_of_an_epoch(result) / 1e12, "val_accuracy": accuracy}
            for result in results
            for epoch, accuracy in enumerate(result.curves["val_accuracy"])
        ]
    )


def work_of_an_epoch(result: Result) -> float:
    """FLOPs that one pass over the training images takes, images beyond the last full batch left out."""
    batch = min(result.spec["recipe"]["batch_size"], images := result.provenance["data"]["train"])
    return TRAINING * result.metrics["flops"] * (images // batch * batch)


def names(results: Results, scale: str) -> dict[str, str]:
    """Return the name of each result's recipe, by the result's key."""
    seeds = {result.spec["seed"] for result in results}
    return {replace(run, seed=seed).key: name for name, run in recipes(scale).items() for seed in seeds}
