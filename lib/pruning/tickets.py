"""Lottery tickets: the next level's masks, and the masks that tickets are compared with.

The lottery ticket hypothesis (Frankle and Carbin 2019, arXiv 1803.03635): in a network before training there is a part that,
trained alone, does as well as the whole.  It is found by training, pruning the smallest weights, setting the rest back to
what they were, and so on, level by level.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.pruning.allocate import masks
from lib.pruning.mask import Masks, count
from lib.pruning.pieces import top
from lib.system.checks import one_of, require

#: How weights are compared when a level is pruned: all layers together, or each layer by itself.
SCOPES = ("global", "layerwise")

#: Layer-wise, the output layer is pruned at this fraction of the rate, as in the paper (its figure 2).
OUTPUT_RATE = 0.5


def next_masks(weights: Mapping[str, Tensor], before: Masks, amount: float, scope: str = "global", output: str = "head") -> Masks:
    """Masks after one more level: of the weights still there, the share ``amount`` with the smallest magnitude goes.

    weights: trained, by layer.  output: name of the output layer, pruned at half the rate where ``scope`` is "layerwise".
    The others then lose a little more, the same share each, so that as many weights are left as by one global threshold.
    Raises ValueError for a share or a scope that makes no sense.
    """
    one_of("scope", scope, SCOPES)
    require(0 <= amount < 1, f"amount is {amount}: it must be a share of the weights still there, in [0, 1)")
    # What is pruned already comes last, also behind a survivor that happens to be zero.
    scores = {name: torch.where(before[name], weights[name].detach().abs(), -1.0) for name in before}
    if scope == "global":
        return masks(scores, round((1 - amount) * count(before)))
    alive = {name: int(mask.count_nonzero()) for name, mask in before.items()}
    budget = round((1 - amount) * sum(alive.values()))
    spared = min(budget, round((1 - OUTPUT_RATE * amount) * alive.get(output, 0)))
    others = [name for name in alive if name != output]
    whole, kept, seen = sum(alive[name] for name in others), {output: spared}, 0
    for name in others:  # rounding running totals makes the sum exact
        last, seen = seen, seen + alive[name]
        kept[name] = (round((budget - spared) * seen / whole) - round((budget - spared) * last / whole)) if whole else 0
    return {name: top(score.flatten(), kept[name]).view_as(score) for name, score in scores.items()}


def shuffled(found: Masks, seed: int) -> Masks:
    """As many weights in each layer, at random places of it."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator).to(mask.device)].view_as(mask)
        for name, mask in found.items()
    }


def scattered(found: Masks, seed: int) -> Masks:
    """As many weights in all, at random places of the whole network: every layer about as sparse as every other."""
    generator = torch.Generator().manual_seed(seed)
    scores = {name: torch.rand(mask.shape, generator=generator).to(mask.device) for name, mask in found.items()}
    return masks(scores, count(found))


def between(first: nn.Module, second: nn.Module, part: float) -> nn.Module:
    """The network on the straight line from ``first`` (part 0) to ``second`` (part 1): every parameter, and each statistic
    of batch norm, interpolated.

    Statistics of the mixture of two networks are not the mixture of their statistics: estimate them anew
    (:mod:`lib.training.batch_norm`) before the network is judged.
    """
    middle, other = copy.deepcopy(first), second.state_dict()
    with torch.no_grad():
        for name, tensor in middle.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(other[name].to(tensor.device), part)
    return middle


def barrier(errors: list[float]) -> float:
    """Highest error on the line minus the mean of its ends (Frankle et al. 2020, arXiv 1912.05671, section 2): about 0 when
    two runs found the same valley, so the network was stable to the noise of SGD where they parted."""
    require(len(errors) >= 3, f"{len(errors)} errors: a line needs its two ends and a point between them")
    return max(errors) - (errors[0] + errors[-1]) / 2
