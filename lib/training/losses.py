"""What is minimised: functions ``loss(model, inputs, targets)`` that the training loop calls."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

#: Returns the scalar to minimise, and scalars to log as epoch means.
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


def classification_loss(label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy of ``model(inputs)`` [B, classes] with classes [B] or probabilities [B, classes].

    label_smoothing ε mixes either kind of target with the uniform distribution: (1 - ε)·target + ε/classes
    (arXiv 1512.00567, section 7).  Logs ``train_accuracy``, against the likeliest class of soft targets.
    """

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(inputs).float()
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing), {"train_accuracy": accuracy}

    return loss


def language_model_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy per token, in nats, of ``model(inputs)`` [B, N, V] with tokens [B, N]; -100 is skipped."""
    logits = model(inputs).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), {}
