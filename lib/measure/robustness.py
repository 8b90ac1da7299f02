"""How much of a network's accuracy survives small changes of its images that are made to deceive it.

    robust_accuracy(model, images.test, images, attack="pgd")

Changes are made to images in [0, 1], before they are normalised, and no pixel changes by more than ε.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.images import ImageSet, Split, normalise
from lib.system.checks import one_of, require

#: The usual limit for photographs: 8 of 255 grey levels.
EPSILON = 8 / 255

ATTACKS = ("fgsm", "pgd")

Logits = Callable[[Tensor], Tensor]


def fgsm(logits: Logits, images: Tensor, labels: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, section 4): x + ε sign ∇ₓ CE, clipped to [0, 1].

    logits: of images [B, C, H, W] in [0, 1].  Raises ValueError for images or an ε out of range.
    """
    check(images, epsilon)
    return (images + epsilon * gradient(logits, images, labels).sign()).clamp(0, 1)


def pgd(
    logits: Logits,
    images: Tensor,
    labels: Tensor,
    epsilon: float = EPSILON,
    step: float = 0.01,
    steps: int = 7,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, section 2.1): ``steps`` FGSM steps of size ``step``,
    brought back into the ε-ball and into [0, 1] after each, from a random point of the ball.

    generator: on the CPU; None draws from the global one.  Raises ValueError for images, ε, step or steps out of range.
    """
    check(images, epsilon)
    require(step > 0 and steps >= 1, f"step {step} must be above 0 and steps {steps} at least 1")
    noise = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
    changed = (images + epsilon * noise).clamp(0, 1)
    for _ in range(steps):
        changed = changed + step * gradient(logits, changed, labels).sign()
        changed = torch.minimum(torch.maximum(changed, images - epsilon), images + epsilon).clamp(0, 1)
    return changed


def gradient(logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
    """∇ₓ of the summed cross-entropy: each image's own gradient."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        return torch.autograd.grad(F.cross_entropy(logits(images).float(), labels, reduction="sum"), images)[0]


def robust_accuracy(
    model: nn.Module,
    split: Split,
    image_set: ImageSet,
    attack: str,
    *,
    epsilon: float = EPSILON,
    examples: int | None = None,
    batch_size: int = 500,
    seed: int = 0,
) -> float:
    """Share of the first ``examples`` images of ``split`` that are still told right after the attack; None: of all.

    attack: "fgsm", or "pgd" with 7 steps of 0.01.  The model is attacked in evaluation mode where it is, and keeps its mode.
    Raises ValueError for another attack.
    """
    one_of("attack", attack, ATTACKS)
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)

    def logits(x: Tensor) -> Tensor:
        return model(normalise(255 * x, image_set))

    right, images, labels = 0, split.images[:examples], split.labels[:examples]
    for x, y in zip(images.split(batch_size), labels.split(batch_size)):
        x, y = x.to(device).float() / 255, y.to(device)
        changed = fgsm(logits, x, y, epsilon) if attack == "fgsm" else pgd(logits, x, y, epsilon, generator=generator)
        with torch.no_grad():
            right += (logits(changed).argmax(1) == y).sum().item()
    model.train(mode)
    return right / len(labels)


def check(images: Tensor, epsilon: float) -> None:
    require(
        images.is_floating_point() and 0 <= images.min() and images.max() <= 1,
        "images must be floating-point numbers in [0, 1], not yet normalised: the limit ε is one of grey levels",
    )
    require(epsilon >= 0, f"epsilon is {epsilon}: it must not be negative")
