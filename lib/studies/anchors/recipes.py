"""Recipes of the anchors at each scale, by name."""

from __future__ import annotations

from dataclasses import replace

from lib.data.augment import Augmentation
from lib.models.vgg import vgg16
from lib.models.vit import ViTConfig
from lib.models.whitened_cnn import WhitenedCNNConfig
from lib.studies.anchors.runs import AnchorRun
from lib.studies.base.images import LIGHT
from lib.training.loop import Recipe

#: Each image is seen from both sides in two epochs, and shifted by up to two pixels.
SHIFTED = Augmentation(crop=2, crop_padding="reflect", alternate=True)

#: Enough to see 50,000 photographs a hundred times.
DISTORTED = Augmentation(crop=4, flip=True, randaugment=(2, 9), random_erasing=0.25)


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


def vit_recipe(epochs: int, **changes) -> Recipe:
    """Return Muon at its usual momentum, with a warm-up and then a straight line down: what vision transformers are trained by here."""
    return Recipe(
        **{
            "epochs": epochs,
            "batch_size": 512,
            "optimizer": "muon",
            "lr": 2e-3,
            "momentum": 0.95,
            "schedule": "linear",
            "final_lr": 0.02,
            "label_smoothing": 0.1,
            "precision": "bf16",
        }
        | changes
    )


def large() -> dict[str, AnchorRun]:
    """Return the anchors that only a GPU trains: VGG16, and a vision transformer with a convolutional stem."""
    sgd = Recipe(
        epochs=100,
        batch_size=256,
        optimizer="sgd",
        lr=0.1,
        weight_decay=5e-4,
        warmup=0.2,
        schedule="linear",
        label_smoothing=0.1,
        clip=None,
        precision="bf16",
        channels_last=True,
    )
    vit = ViTConfig(width=192, depth=6, heads=6, hidden=768, stem="conv")
    return {
        "VGG16": AnchorRun(model=vgg16(), recipe=sgd, augmentation=LIGHT),
        "ViT": AnchorRun(model=vit, recipe=vit_recipe(100), augmentation=DISTORTED),
    }


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
    } | (large() if scale == "gpu" else {})
