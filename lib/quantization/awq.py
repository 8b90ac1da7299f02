"""AWQ: scale up the weights of strong features before rounding (Lin et al. 2024, arXiv 2306.00978).

weights = awq([gate.weight, up.weight], statistics, bits=3, group=64)        # scales, cut-back and rounding in one
scale_I, alpha = search([q.weight, k.weight, v.weight], statistics, bits=3, group=64)
weight_OI = scaled(q.weight, scale_I, bits=3, group=64)         # or rescale.move(norm, [q, k, v], scale_I), then round
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.models.calibration import Statistics
from lib.quantization.grid import nearest

#: Exponents that are tried, from 0 on, and the smallest scale, as in the authors' code.
STEPS, LEAST = 20, 1e-4


def scale_of(statistics: Statistics, alpha: float) -> Tensor:
    """s = mean|x|^α of each feature, [I] (eq. 5), so that the largest times the smallest is 1."""
    scale_I = statistics.mean_I.pow(alpha).clamp(min=LEAST)
    return scale_I / (scale_I.max() * scale_I.min()).sqrt()


@torch.no_grad()
def scaled(weight_OI: Tensor, scale_I: Tensor, bits: int, group: int | None = None, symmetric: bool = False) -> Tensor:
    """Q(W diag(s)) diag(s)⁻¹, [O, I] (eq. 4): as it acts on inputs that nobody has divided by s."""
    scale_I = scale_I.to(weight_OI)
    return nearest(weight_OI * scale_I, bits, group, symmetric) / scale_I


@torch.no_grad()
def search(
    weights: Sequence[Tensor], statistics: Statistics, bits: int, group: int | None = None, symmetric: bool = False
) -> tuple[Tensor, float]:
    """The scales [I] with the least error of the outputs, and their α in [0, 1) (eq. 4 and 5).

    weights: of the layers that read these features and share the scales.  The error is Σ ‖W x - Ŵ x‖² over these layers,
    read off Σ x xᵀ; the authors' code takes that of the whole attention or FFN instead, on samples of the inputs.
    α = 0 is plain rounding, so that the result is never worse than that on the calibration inputs.
    """

    def error(alpha: float) -> float:
        scale_I = scale_of(statistics, alpha)
        changes = (scaled(weight, scale_I, bits, group, symmetric) - weight for weight in weights)
        return sum(float(((change @ gram_II) * change).sum()) for change in changes)

    weights = [weight.detach().to(statistics.gram_II.dtype) for weight in weights]
    gram_II = statistics.gram_II
    alpha = min((step / STEPS for step in range(STEPS)), key=error)
    return scale_of(statistics, alpha), alpha


@torch.no_grad()
def clipped(weight_OI: Tensor, statistics: Statistics, bits: int, group: int | None = None, symmetric: bool = False) -> Tensor:
    """The weight with the largest of each group cut back, [O, I], so that rounding it costs less (section 3.2's clipping).

    Limits of 1 to 0.55 of a group's largest |w| are tried, each group by itself: its error is δ H_gg δᵀ, where H_gg are the
    group's own features in Σ x xᵀ.  The authors' code samples 512 tokens for this, and leaves queries and keys as they are.
    """
    inputs = weight_OI.shape[1]
    group = inputs if group is None else min(group, inputs)
    found_OI = weight_OI.detach().clone()
    for start in range(0, inputs, group):
        part = slice(start, start + group)
        own_OJ, gram_JJ = weight_OI.detach()[:, part].to(statistics.gram_II.dtype), statistics.gram_II[part, part]
        largest_O = own_OJ.abs().amax(1, keepdim=True)
        least_O = torch.full_like(largest_O, torch.inf)
        for step in range(STEPS // 2):
            limit_O = largest_O * (1 - step / STEPS)
            cut_OJ = own_OJ.clamp(-limit_O, limit_O)
            change_OJ = nearest(cut_OJ, bits, None, symmetric) - own_OJ
            error_O = ((change_OJ @ gram_JJ) * change_OJ).sum(1, keepdim=True)
            found_OI[:, part] = torch.where(error_O < least_O, cut_OJ.to(weight_OI), found_OI[:, part])
            least_O = torch.minimum(least_O, error_O)
    return found_OI


@torch.no_grad()
def awq(
    weights: Sequence[Tensor],
    statistics: Statistics,
    bits: int,
    group: int | None = None,
    symmetric: bool = False,
    cut: Sequence[bool] | None = None,
) -> list[Tensor]:
    """The rounded weights [O, I] of layers that read the same features: scaled, cut back, rounded, and scaled again.

    cut: for each layer whether the largest of its groups are cut back; None: for all.  The authors leave queries and keys.
    """
    scale_I, _ = search(weights, statistics, bits, group, symmetric)
    divided = statistics.divided(scale_I)
    found = []
    for weight_OI, cuts in zip(weights, cut or [True] * len(weights), strict=True):
        larger_OI = weight_OI.detach() * scale_I.to(weight_OI)
        if cuts:
            larger_OI = clipped(larger_OI, divided, bits, group, symmetric)
        found.append(nearest(larger_OI, bits, group, symmetric) / scale_I.to(weight_OI))
    return found
