"""DeiT's two ways of distilling through a token (Touvron et al. 2021, arXiv 2012.12877, section 4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

#: What a sum of KL over a batch is divided by, see :func:`soft_loss`.
REDUCTIONS = ("batchmean", "numel")


def hard_loss(
    class_logits: Tensor, distilled_logits: Tensor, teacher_logits: Tensor, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """½ CE(class token, labels) + ½ CE(distillation token, the teacher's likeliest class), equation 3.

    Logits [B, classes], targets int64 [B] or probabilities [B, classes].  Labels alone are smoothed.  A network without
    the token passes its logits twice.
    """
    return (
        F.cross_entropy(class_logits, targets, label_smoothing=label_smoothing)
        + F.cross_entropy(distilled_logits, teacher_logits.argmax(-1))
    ) / 2


def soft_loss(
    class_logits: Tensor,
    distilled_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    weight: float = 0.1,
    temperature: float = 3.0,
    reduction: str = "batchmean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - λ) CE(class token, labels) + λ T² KL(teacher ‖ distillation token), equation 2, λ = 0.1, T = 3.

    reduction: "batchmean" is the formula; "numel" divides by the number of classes as well, as the released code does, so
    that soft distillation weighs a thousandth on ImageNet: the paper's comparison with the hard kind has this in it.
    No gradient passes to the teacher.  Raises ValueError for another reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}: use one of {', '.join(map(repr, REDUCTIONS))}")
    divergence = F.kl_div(
        F.log_softmax(distilled_logits / temperature, -1),
        F.log_softmax(teacher_logits.detach() / temperature, -1),
        reduction="sum",
        log_target=True,
    )
    count = distilled_logits.numel() if reduction == "numel" else len(distilled_logits)
    labels = F.cross_entropy(class_logits, targets, label_smoothing=label_smoothing)
    return (1 - weight) * labels + weight * temperature**2 * divergence / count


def prediction(class_logits: Tensor, distilled_logits: Tensor) -> Tensor:
    """Probabilities at test time [B, classes]: the mean of both tokens' softmax (section 4)."""
    return (class_logits.softmax(-1) + distilled_logits.softmax(-1)) / 2
