"""Recipes of the anchors at each scale, by name."""

from __future__ import annotations

from dataclasses import replace

from lib.data.augment import Augmentation
from lib.models.whitened_cnn import WhitenedCNNConfig
from lib.studies.anchors.runs import AnchorRun
from lib.training.loop import Recipe

#: Each image is seen from both sides in two epochs, and shifted by up to two pixels.
SHIFTED = Augmentation(crop=2, crop_padding="reflect", alternate=True)


def cnn_recipe(epochs: int, **changes) -> Recipe:
    """Return Muon with little momentum and a rate that falls from the first step, as the CNN's author trains it."""
    return Recipe(
        **{
            "epochs": epochs,
            "batch_size": 500,
            "optimizer": "muon",
            "lr": 0.02,
            "weight_decay": 1.0,
            "betas": (0.9, 0.95),
            "momentum": 0.6,
            "warmup": 0.0,
            "schedule": "linear",
            "label_smoothing": 0.2,
            "clip": None,
            "precision": "auto",
            "channels_last": True,
        }
        | changes
    )


def recipes(scale: str) -> dict[str, AnchorRun]:
    """Return the anchors of a scale: a small CNN for a few minutes, and the CNN that other chapters build on."""
    small = WhitenedCNNConfig(widths=(32, 128, 128))
    cnn = WhitenedCNNConfig()
    if scale in ("smoke", "laptop"):
        digits = WhitenedCNNConfig(widths=(8, 16) if scale == "smoke" else (16, 32), channels=1)
        short = AnchorRun(
            dataset="digits",
            train_examples=150 if scale == "smoke" else None,
            model=digits,
            recipe=cnn_recipe(1 if scale == "smoke" else 4, batch_size=50),
        )
        return {"small CNN": short, "CNN": replace(short, recipe=replace(short.recipe, epochs=2 * short.recipe.epochs))}
    longer = 1 if scale == "cpu" else 2
    return {
        "small CNN": AnchorRun(model=small, recipe=cnn_recipe(6 * longer), augmentation=SHIFTED),
        "CNN": AnchorRun(model=cnn, recipe=cnn_recipe(8 * longer), augmentation=SHIFTED),
    }
