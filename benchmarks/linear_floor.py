"""Test accuracy of a linear classifier of the pixels: what a network must beat before its parts are judged.

    python benchmarks/linear_floor.py                     # digits, which is embedded
    BOOK_DATA=… python benchmarks/linear_floor.py cifar100 cifar10 mnist

Softmax regression on all training images of a data set, in AdamW with a rate that falls to 0 along a half cosine.  The weight
decay is chosen on the validation images, over three seeds; the test images are read once per seed, at the end.  The numbers stand in
``lib.studies.base.needs.LINEAR``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.data.images import DATA_NAMES, ImageSet, Split, load_images, normalise

BATCH, LR, SEEDS = 256, 1e-3, (0, 1, 2)
DECAYS = (0.0, 0.05, 0.5)

#: Passes over the images; small sets take more of them to come to rest.
EPOCHS = {"digits": 200}


def trained(images: ImageSet, decay: float, seed: int, epochs: int) -> nn.Linear:
    torch.manual_seed(seed)
    split, classes = images.train, int(images.train.labels.max()) + 1
    model = nn.Linear(split.images[0].numel(), classes)
    optimizer = torch.optim.AdamW(model.parameters(), LR, weight_decay=decay)
    steps = epochs * -(-len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(split)).split(BATCH):
            loss = nn.functional.cross_entropy(model(pixels(split.images[rows], images)), split.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def pixels(images: Tensor, of: ImageSet) -> Tensor:
    """Normalised pixels ``[B, C·H·W]``."""
    return normalise(images, of).flatten(1)


@torch.no_grad()
def accuracy(model: nn.Linear, split: Split, of: ImageSet) -> float:
    right = sum(
        (model(pixels(split.images[rows], of)).argmax(1) == split.labels[rows]).sum() for rows in torch.arange(len(split)).split(2000)
    )
    return float(right) / len(split)


@click.command(help=__doc__.splitlines()[0])
@click.argument("datasets", nargs=-1, type=click.Choice(DATA_NAMES))
def main(datasets: tuple[str, ...]) -> None:
    for name in datasets or ("digits",):
        images = load_images(name)
        epochs = EPOCHS.get(name, 15)
        models = {decay: [trained(images, decay, seed, epochs) for seed in SEEDS] for decay in DECAYS}
        kept = {decay: sum(accuracy(model, images.validation, images) for model in found) / len(SEEDS) for decay, found in models.items()}
        best = max(kept, key=lambda decay: kept[decay])
        tested = [accuracy(model, images.test, images) for model in models[best]]
        print(
            f"{name} ({images.variant}): validation {', '.join(f'{value:.4f} at decay {decay:g}' for decay, value in kept.items())}; "
            f"test {', '.join(f'{value:.4f}' for value in tested)}, mean {sum(tested) / len(tested):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
