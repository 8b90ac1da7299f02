"""Which ReLUs stay: the indicator of AutoReP (Peng et al. 2023, arXiv 2308.10134, sections 3.2 and 3.3).

Each position of a feature map has a score, which is trained, and a mask, which is 1 where the ReLU stays.
Masks here are float tensors of zeros and ones, [C, H, W] per layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.system.checks import require


def hysteresis(mask: Tensor, score: Tensor, threshold: float) -> Tensor:
    """The next mask: 1 becomes 0 when the score has fallen to -threshold, 0 becomes 1 when it exceeds threshold.

    With threshold 0 the mask is the sign of the score, as in methods before it.
    """
    return torch.where(mask > 0, score > -threshold, score > threshold).to(mask.dtype)


class Indicator(torch.autograd.Function):
    """The mask in the forward pass; in the backward pass, as if it were a function of the score with slope softplus(score).

    The slope never vanishes, so a replaced ReLU can return; it is small where the score is far below 0 (equation 9).
    """

    @staticmethod
    def forward(ctx, score: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(score)
        return mask.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (score,) = ctx.saved_tensors
        return F.softplus(score) * gradient, None


def indicator(score: Tensor, mask: Tensor) -> Tensor:
    return Indicator.apply(score, mask)


def best(scores: Sequence[Tensor], budget: int) -> list[Tensor]:
    """Masks that keep exactly the ``budget`` highest scores of all layers together; among equals, the first ones.

    The paper lets training end near the budget; its code accepts up to 2,000 ReLUs more.  We cut to it.
    """
    flat = torch.cat([score.flatten() for score in scores])
    check_budget(budget, len(flat))
    kept = torch.zeros_like(flat)
    kept[flat.sort(descending=True, stable=True).indices[:budget]] = 1.0
    return split_like(kept, scores)


def at_random(shapes: Sequence[Tensor], budget: int, seed: int) -> list[Tensor]:
    """Masks with ``budget`` ones at random positions of all layers together; of ``shapes`` only the shapes matter."""
    total = sum(one.numel() for one in shapes)
    check_budget(budget, total)
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:budget]
    kept = torch.zeros(total)
    kept[chosen] = 1.0
    return split_like(kept, shapes)


def shuffled(masks: Sequence[Tensor], seed: int) -> list[Tensor]:
    """The same number of ones in each layer, at random positions of it."""
    generator = torch.Generator().manual_seed(seed)
    return [mask.flatten()[torch.randperm(mask.numel(), generator=generator).to(mask.device)].view_as(mask) for mask in masks]


def split_like(flat: Tensor, shapes: Sequence[Tensor]) -> list[Tensor]:
    parts = flat.split([one.numel() for one in shapes])
    return [part.view_as(one).to(one.device) for part, one in zip(parts, shapes)]


def check_budget(budget: int, total: int) -> None:
    require(0 <= budget <= total, f"budget is {budget}: it must be a number of ReLUs from 0 to {total:,}, all that there are")
