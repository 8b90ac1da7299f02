"""Distilling the knowledge in a neural network (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

The student is trained on the teacher's probabilities, softened by a temperature, and on the labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.system.checks import require


def distillation(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(v / T) ‖ softmax(z / T)), mean over the batch, of student z and teacher v [B, classes].

    Section 2 of the paper.  Softened gradients shrink like 1 / T², so T² keeps the balance with the labels'
    loss when T changes.  For T → ∞ this becomes half the mean squared difference of the logits, each freed
    of its mean over the classes (section 2.1).  No gradient passes to the teacher.
    """
    student = F.log_softmax(student_logits / temperature, -1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, -1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def check_settings(temperature: float, alpha: float) -> None:
    """Raise ValueError for a temperature or an α out of range."""
    require(temperature > 0, f"temperature is {temperature}: it must be above 0")
    require(0 <= alpha <= 1, f"alpha is {alpha}: it must be in [0, 1], the teacher's share of the loss")


def hinton_loss(teacher: nn.Module, temperature: float = 4.0, alpha: float = 0.7, label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit`: α · T² · KL(teacher ‖ student, both at T) + (1 - α) · CE(labels).

    The paper leaves both weights open and advises a small one for the labels.  Label smoothing is applied
    to them alone.  Puts the teacher into evaluation mode; it gets no gradient and does not belong to the model.
    Logs ``train_accuracy``, against the likeliest class of soft targets, and ``agreement``: how often both
    predict the same class.  Raises ValueError for a temperature or an α out of range.
    """
    check_settings(temperature, alpha)
    teacher.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            taught = teacher(inputs).float()
        logits = model(inputs).float()
        predicted = logits.detach().argmax(-1)
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        return (
            alpha * distillation(logits, taught, temperature)
            + (1 - alpha) * F.cross_entropy(logits, targets, label_smoothing=label_smoothing),
            {"train_accuracy": (predicted == labels).float().mean(), "agreement": (predicted == taught.argmax(-1)).float().mean()},
        )

    return loss
