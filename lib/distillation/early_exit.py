"""Early exit: an easy image leaves at a shallow classifier that is sure of it (Zhang, Bao and Ma, TPAMI 2022, sec. 3.5).

    thresholds = [0.9, 0.95]                            # one per shallow classifier
    left, predicted = leave(answers(logits_KBC), thresholds)
    front = search_thresholds(answers(logits_KBC), labels, exit_flops(net, (1, 8, 8)))

The thresholds are found by NSGA-II (Deb et al. 2002) of the library pymoo, as accuracy against mean FLOPs; the authors
use a genetic algorithm of their own on binary codes, with one fitness of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lib.distillation.exits import ExitNet
from lib.measure import cost as measure
from lib.system.checks import require

#: A threshold that no probability reaches: the classifier is never left at.
NEVER = 1.01


def ensemble(logits_KBC: Tensor) -> Tensor:
    """Probabilities [B, C] of the mean logits of K classifiers [K, B, C].

    Where there are three or more, the shallowest is left out, as in the authors' training; their test code averages all.
    """
    kept = logits_KBC[1:] if len(logits_KBC) >= 3 else logits_KBC
    return kept.mean(0).softmax(-1)


def answers(logits_KBC: Tensor) -> Tensor:
    """Probabilities [K, B, C] of where an image may leave: K - 1 shallow classifiers, then the ensemble of all."""
    return torch.cat([logits_KBC[:-1].softmax(-1), ensemble(logits_KBC)[None]])


def leave(probabilities_KBC: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Where each image leaves, [B] in 0…K - 1, and its class [B], for :func:`answers` and K - 1 thresholds.

    An image leaves at the first shallow classifier whose highest probability is above its threshold; where none is sure,
    the ensemble decides.  Raises ValueError for another number of thresholds.
    """
    require(
        len(thresholds) == len(probabilities_KBC) - 1,
        f"{len(thresholds)} thresholds for {len(probabilities_KBC) - 1} shallow classifiers: give one for each",
    )
    limits_K = torch.as_tensor(thresholds, dtype=probabilities_KBC.dtype, device=probabilities_KBC.device)
    sure_KB = probabilities_KBC[:-1].amax(-1) > limits_K[:, None]
    left_B = torch.cat([sure_KB, torch.ones_like(probabilities_KBC[-1:, :, 0], dtype=torch.bool)]).int().argmax(0)
    return left_B, probabilities_KBC.argmax(-1).gather(0, left_B[None])[0]


@torch.no_grad()
def infer(net: ExitNet, image: Tensor, thresholds: Sequence[float]) -> tuple[int, int]:
    """One image [1, C, H, W], computed as far as it needs to be: where it left, and its class, as :func:`leave` has them."""
    seen = []
    for place, (logits, _) in enumerate(net.walk(image)):
        seen.append(logits)
        if place < len(thresholds):
            probability, predicted = logits[0].softmax(-1).max(-1)
            if probability > thresholds[place]:
                return place, int(predicted)
    return len(thresholds), int(ensemble(torch.stack(seen))[0].argmax())


@torch.no_grad()
def exit_flops(net: ExitNet, shape: tuple[int, int, int]) -> list[int]:
    """FLOPs of one image [C, H, W] that leaves at each shallow classifier, then of one that the ensemble decides.

    Counted while the network runs that far: the shallower classifiers that were not sure are paid for as well.
    """
    image = torch.zeros(1, *shape, device=next(net.parameters()).device)
    return [measure.flops(UpTo(net, place), image) for place in range(net.count)]


class UpTo(nn.Module):
    """The network as far as its classifier number ``place``."""

    def __init__(self, net: ExitNet, place: int):
        super().__init__()
        self.net, self.place = net, place

    def forward(self, images: Tensor) -> Tensor:
        walk = self.net.walk(images)
        for _ in range(self.place):
            next(walk)
        return next(walk)[0]


@dataclass(frozen=True)
class Setting:
    """Thresholds with the accuracy and the mean FLOPs of an image that they gave on the images they were chosen by."""

    thresholds: tuple[float, ...]
    accuracy: float
    flops: float


def judged(probabilities_KBC: Tensor, labels: Tensor, flops: Sequence[float], thresholds: Sequence[float]) -> Setting:
    """Accuracy and mean FLOPs of an image with these thresholds."""
    left_B, predicted_B = leave(probabilities_KBC, thresholds)
    spent = torch.as_tensor(flops, dtype=torch.float64, device=left_B.device)[left_B].mean().item()
    return Setting(tuple(float(t) for t in thresholds), (predicted_B == labels).double().mean().item(), spent)


def search_thresholds(
    probabilities_KBC: Tensor, labels: Tensor, flops: Sequence[float], *, population: int = 32, generations: int = 25, seed: int = 0
) -> list[Setting]:
    """Thresholds of which no others are both cheaper and more accurate on these images, the cheapest first.

    probabilities_KBC: of :func:`answers`, flops: as :func:`exit_flops` gives them.  The same for the same seed.
    """
    # Imported here: half a second that only a search needs.
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    seen: list[Setting] = []

    class Trade(Problem):
        def _evaluate(self, thresholds_NK, out, *args, **kwargs):
            found = [judged(probabilities_KBC, labels, flops, row) for row in thresholds_NK]
            seen.extend(found)
            out["F"] = np.array([[-s.accuracy, s.flops] for s in found])

    shallow = len(probabilities_KBC) - 1
    chance = 1 / probabilities_KBC.shape[-1]
    first = chance + (NEVER - chance) * np.random.default_rng(seed).random((population, shallow))
    first[:2] = [[NEVER] * shallow, [chance] * shallow]  # everything to the ensemble, everything to the shallowest
    minimize(
        Trade(n_var=shallow, n_obj=2, xl=chance, xu=NEVER),
        NSGA2(population, sampling=first),
        ("n_gen", generations),
        seed=seed,
        verbose=False,
    )
    return front(seen)


def sweep_thresholds(probabilities_KBC: Tensor, labels: Tensor, flops: Sequence[float], steps: int = 41) -> list[Setting]:
    """The same for thresholds that are one number for all classifiers: what a search must beat."""
    grid = np.linspace(1 / probabilities_KBC.shape[-1], NEVER, steps)
    return front([judged(probabilities_KBC, labels, flops, [value] * (len(probabilities_KBC) - 1)) for value in grid])


def front(settings: Sequence[Setting]) -> list[Setting]:
    """Those that no other beats: fewer FLOPs and at least the accuracy, or the FLOPs and a higher accuracy."""
    found: list[Setting] = []
    for setting in sorted(settings, key=lambda s: (s.flops, -s.accuracy)):
        if not found or setting.accuracy > found[-1].accuracy:
            found.append(setting)
    return found
