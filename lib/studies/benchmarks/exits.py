"""The row of a network with exits: judged as it is used, each image leaving where it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lib.data.images import ImageSet, normalise
from lib.distillation.early_exit import Setting, UpTo, answers, exit_flops, judged, leave, search_thresholds
from lib.distillation.exits import ExitNet
from lib.distillation.leaving import EarlyExit
from lib.studies.benchmarks.rows import row, shipped, zero_flops
from lib.studies.teachers.api import all_logits, thinned

#: What early exit may cost, in accuracy on the validation images.
LOSS = 0.005


@dataclass(frozen=True)
class Judged:
    """A network that is left early, with its metrics and arrays."""

    model: EarlyExit
    metrics: dict[str, float]
    arrays: dict[str, object]


def exit_row(net: ExitNet, images: ImageSet, precision: str, folder: Path, seed: int = 0) -> Judged:
    """Thresholds chosen on the validation images, and what :func:`lib.studies.benchmarks.rows.row` says with them.

    Of the settings found, the cheapest within :data:`LOSS` of the best.  ``flops`` and ``flops_nonzero`` are means over the
    test images; ``flops_whole`` is of one that no classifier was sure of.  Arrays: ``thresholds``, ``flops_by_exit``,
    ``left`` (the share of the test images that leaves at each) and ``front``, what other thresholds would have given.
    """
    sent = shipped(net, images, folder)[0].to(next(net.parameters()).device).eval()
    flops = exit_flops(sent, images.shape)
    held, tested = (answers(all_logits(sent, split, images, precision)).cpu() for split in (images.validation, images.test))
    labels, test_labels = images.validation.labels.cpu(), images.test.labels.cpu()
    front = [judged(held, labels, flops, in_half(setting.thresholds)) for setting in search_thresholds(held, labels, flops, seed=seed)]
    chosen = cheapest(front)
    model = EarlyExit(net, chosen.thresholds)
    metrics, arrays = row(model, images, precision, folder)

    left_B, _ = leave(tested, chosen.thresholds)
    left = torch.bincount(left_B, minlength=len(flops)).double() / len(left_B)
    image = normalise(images.test.images[:1], images)
    zeros = [zero_flops(UpTo(sent, place), image) for place in range(sent.count)]
    spent = mean(flops, left)
    metrics |= {"flops": spent, "flops_nonzero": spent - mean(zeros, left), "flops_whole": flops[-1]}
    arrays |= {
        "thresholds": list(chosen.thresholds),
        "flops_by_exit": flops,
        "left": left.tolist(),
        "front": [shown(setting, judged(tested, test_labels, flops, setting.thresholds)) for setting in thinned(front)],
    }
    return Judged(model, metrics, arrays)


def cheapest(front: Sequence[Setting]) -> Setting:
    """Of the settings whose accuracy is within :data:`LOSS` of the best one's, that with the fewest FLOPs."""
    best = max(setting.accuracy for setting in front)
    return min((setting for setting in front if setting.accuracy >= best - LOSS - 1e-9), key=lambda setting: setting.flops)


def in_half(thresholds: Sequence[float]) -> list[float]:
    """As a file of 16 bits holds them."""
    return torch.tensor(thresholds, dtype=torch.float64).half().tolist()


def mean(values: Sequence[float], weights: Tensor) -> float:
    return float(torch.tensor(values, dtype=torch.float64) @ weights)


def shown(setting: Setting, test: Setting) -> dict[str, object]:
    return {
        "thresholds": [round(t, 4) for t in setting.thresholds],
        "val_accuracy": setting.accuracy,
        "val_flops": setting.flops,
        "test_accuracy": test.accuracy,
        "test_flops": test.flops,
    }
