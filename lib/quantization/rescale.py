"""Move a scale per feature from activations into weights: W x = (W diag(s)) (diag(s)⁻¹ x), which changes nothing.

AWQ and SmoothQuant choose s; ``move`` does it, so that no division is left to be done when the network runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib.system.checks import require


@torch.no_grad()
def move(before: nn.Module, layers: Sequence[nn.Linear], scale_I: Tensor) -> None:
    """Divide what ``before`` writes by ``scale_I`` and multiply the columns of ``layers`` by it, in place.

    before: a norm with a gain, or a linear layer, whose output is read by ``layers`` alone.  Between it and them there may
    be what acts on each feature by a factor, such as the gate of a SwiGLU, but no other nonlinearity.
    Raises ValueError for scales that are not positive, or of another size than the features.
    """
    require(bool((scale_I > 0).all()), "scales must be positive")
    written = before.weight.shape[0]
    require(
        all(each.in_features == len(scale_I) == written for each in layers),
        f"{len(scale_I)} scales for {written} features written and {[each.in_features for each in layers]} read",
    )
    before.weight.div_(scale_I if before.weight.ndim == 1 else scale_I[:, None])
    if getattr(before, "bias", None) is not None:
        before.bias.div_(scale_I)
    for layer in layers:
        layer.weight.mul_(scale_I)
