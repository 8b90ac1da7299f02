"""How alike two networks' beliefs are near their decision boundaries.

Micaelli and Storkey 2019, arXiv 1905.09768, section 4.4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def transition_curves(first: nn.Module, second: nn.Module, images: Tensor, steps: int = 30, lr: float = 1.0) -> tuple[Tensor, Tensor]:
    """Walk each image [N, C, H, W] towards each other class by gradient steps on ``first``, and watch both networks.

    Returns (p_first, p_second) [N, classes - 1, steps]: the probability of the class that is walked to, before each step.
    The class that ``first`` predicts is where the walk begins.  A step is lr times the gradient of -log p_first at that
    image.  Both networks are used in evaluation mode, which they keep; their weights are left alone.
    """
    first.eval(), second.eval()
    with torch.no_grad():
        logits = first(images)
    count, classes = logits.shape
    others = torch.arange(1, classes, device=images.device)
    target = ((logits.argmax(-1)[:, None] + others) % classes).flatten()
    x = images.repeat_interleave(classes - 1, 0)
    own, other = [], []
    for _ in range(steps):
        x = x.detach().requires_grad_()
        logits = first(x)
        # A sum: each image's own gradient, whatever the number of images.
        (slope,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), x)
        with torch.no_grad():
            for network, found in ((logits, own), (second(x), other)):
                found.append(network.detach().float().softmax(-1).gather(1, target[:, None])[:, 0])
            x = x - lr * slope
    return tuple(torch.stack(found, -1).view(count, classes - 1, steps) for found in (own, other))


def transition_error(first: Tensor, second: Tensor) -> float:
    """Mean absolute difference of two networks' transition curves (equation 5): 0 where beliefs match."""
    return (first - second).abs().mean().item()
