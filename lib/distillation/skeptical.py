"""Skeptical students (Kundu et al., NeurIPS 2021, "Analyzing the confidentiality of undistillable teachers in knowledge
distillation"): a shallow part of the student alone hears what the teacher says; the rest learns from labels, or from that
part.

The student is an :class:`~lib.distillation.exits.ExitNet`: shallow classifiers on the way, its own at the end.

The released code has a delay: in its first epochs (up to ``kd_delay``) the last classifier learns from labels and nothing
else is learnt.  Here, as in the paper, all parts count from the first step on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.hinton import check_settings, distillation
from lib.system.checks import require

#: Share of the beliefs in what the deepest shallow classifier learns from the last one.
FROM_ITSELF = 0.3


def plain_divergence(logits: Tensor, reference_logits: Tensor, temperature: float) -> Tensor:
    """KL(reference ‖ student), both at the temperature, mean over the batch, without T²; none passes to the reference."""
    return F.kl_div(
        F.log_softmax(logits / temperature, -1),
        F.log_softmax(reference_logits.detach() / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )


def hybrid(
    logits_KBC: Tensor, teacher_logits: Tensor, targets: Tensor, listener: int = 0, temperature: float = 4.0, alpha: float = 0.9
) -> dict[str, Tensor]:
    """The three parts of the loss for logits [K, B, classes] of K classifiers, the shallowest first; they are to be added.

    heard: α T² KL(teacher ‖ listener) + (1 - α) CE of the shallow classifier ``listener``, from 0;
    itself: 0.3 KL(last ‖ deepest shallow) + 0.7 CE of the deepest shallow classifier, without T² (the same classifier when
    it is the listener);  labels: CE of the last one.  As in the authors' code, which sums the second part over the deepest
    shallow classifier alone, where the paper sums over all; unlike there, no gradient passes to the last classifier as a
    teacher. Raises ValueError for a listener that is none of the shallow classifiers, and for a temperature or an α out of
    range.
    """
    check_settings(temperature, alpha)
    require(0 <= listener < len(logits_KBC) - 1, f"listener is {listener}: the shallow classifiers are 0 to {len(logits_KBC) - 2}")
    ear, deepest, last = logits_KBC[listener], logits_KBC[-2], logits_KBC[-1]
    return {
        "heard": alpha * distillation(ear, teacher_logits, temperature) + (1 - alpha) * F.cross_entropy(ear, targets),
        "itself": (FROM_ITSELF * plain_divergence(deepest, last, temperature) + (1 - FROM_ITSELF) * F.cross_entropy(deepest, targets)),
        "labels": F.cross_entropy(last, targets),
    }


def skeptical_loss(teacher: nn.Module, listener: int = 0, temperature: float = 4.0, alpha: float = 0.9):
    """A loss for :func:`lib.training.loop.fit` and an :class:`~lib.distillation.exits.ExitNet`: :func:`hybrid`.

    Puts the teacher into evaluation mode.  Logs each part, ``train_accuracy`` of the last classifier and its ``agreement``.
    """
    check_settings(temperature, alpha)
    teacher.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            taught = teacher(inputs).float()
        logits_KBC, _ = model.all_exits(inputs)
        parts = hybrid(logits_KBC, taught, targets, listener, temperature, alpha)
        predicted = logits_KBC[-1].detach().argmax(-1)
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()} | {
            "train_accuracy": (predicted == labels).float().mean(),
            "agreement": (predicted == taught.argmax(-1)).float().mean(),
        }

    return loss


def whispered(listener: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """The data-free lesson: KL(teacher ‖ listener) + KL(listener ‖ each later classifier), per class as in zero-shot
    transfer.

    Without labels the last classifier learns from the listener.  The paper balances the two by a factor that could not be
    verified; here it is one.  Returns lesson(logits [K, B, classes], teacher_logits) → scalar.
    """

    def lesson(logits_KBC: Tensor, teacher_logits: Tensor) -> Tensor:
        classes = teacher_logits.shape[-1]
        ear = logits_KBC[listener]
        total = plain_divergence(ear, teacher_logits, 1.0)
        for later in logits_KBC[listener + 1 :]:
            total = total + plain_divergence(later, ear, 1.0)
        return total / classes

    return lesson
