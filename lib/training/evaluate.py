"""How well a classifier does on a split."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lib.data.images import ImageSet, Split, normalise
from lib.system.checks import one_of
from lib.system.precision import PRECISIONS, autocast


@torch.no_grad()
def evaluate_classifier(
    model: nn.Module, split: Split, image_set: ImageSet, batch_size: int = 1000, precision: str = "fp32"
) -> dict[str, float]:
    """``{"accuracy", "loss"}`` of a classifier on all images of ``split``, without augmentation.

    Accuracy is a fraction, loss the mean cross-entropy in nats.  The model is evaluated where it is and
    keeps its mode.
    """
    one_of("precision", precision, PRECISIONS)
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    correct = loss = torch.zeros((), device=device)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size)):
        labels = labels.to(device, non_blocking=True)
        with autocast(device, precision):
            logits = model(normalise(images.to(device, non_blocking=True), image_set)).float()
        correct = correct + (logits.argmax(1) == labels).sum()
        loss = loss + F.cross_entropy(logits, labels, reduction="sum")
    model.train(mode)
    return {"accuracy": correct.item() / len(split.labels), "loss": loss.item() / len(split.labels)}
