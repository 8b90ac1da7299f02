"""SmoothQuant: move the outliers of activations into the weights, half way (Xiao et al. 2023, arXiv 2211.10438).

scale_I = scale_of([q.weight, k.weight, v.weight], statistics)
move(norm, [q, k, v], scale_I)             # of lib.quantization.rescale
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.models.calibration import Statistics

#: The smallest largest |w|, and the smallest scale, as in the authors' code.
LEAST = 1e-5


@torch.no_grad()
def scale_of(weights: Sequence[Tensor], statistics: Statistics, alpha: float = 0.5) -> Tensor:
    """s = max|X|^α / max|W|^(1-α) of each feature, [I] (eq. 4): activations are divided by s, weights multiplied.

    weights: [O, I] of all layers that read these features; the largest |w| is that of them all.  alpha: 1 moves all that
    is difficult to the weights, 0 to the activations; at 0.5 both have the same largest values.
    """
    largest_I = torch.stack([weight.detach().abs().amax(0) for weight in weights]).amax(0).clamp(min=LEAST)
    return (statistics.largest_I.to(largest_I).pow(alpha) / largest_I.pow(1 - alpha)).clamp(min=LEAST)
