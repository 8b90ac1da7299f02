"""Images for a Spec that trains on them."""

from __future__ import annotations

import torch

from lib.data.augment import Augmentation
from lib.data.images import DataDamaged, DataMissing, ImageSet, load_images
from lib.runs.results import Unavailable

#: Side and channels of the images, known without loading them.
SHAPES = {"digits": (8, 1), "mnist": (28, 1), "cifar10": (32, 3), "cifar100": (32, 3)}

#: Enough to see photographs in more than one way.  Written digits must not be mirrored.
LIGHT = Augmentation(crop=4, flip=True)


def other_shape(dataset: str, usual: str) -> dict[str, object]:
    """Changes to a Spec's fields when a reader takes images of another shape than those it was set up for, else none.

    Its number of images and its distortions were chosen for the usual ones.
    """
    if SHAPES[dataset] == SHAPES[usual]:
        return {}
    return {"train_examples": None, "augmentation": LIGHT if dataset.startswith("cifar") else Augmentation()}


def available_images(dataset: str, train_examples: int | None, device: torch.device) -> ImageSet:
    """:func:`lib.data.images.load_images`; data that are missing make the Spec unavailable, not the chapter fail."""
    try:
        return load_images(dataset, device, train_examples)
    except (DataDamaged, DataMissing) as error:
        raise Unavailable(str(error)) from error
