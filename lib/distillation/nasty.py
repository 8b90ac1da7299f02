"""A nasty teacher (Ma et al. 2021, arXiv 2105.07381): right about the label, and misleading about everything else.

It is trained on the labels and, at the same time, away from what a normally trained network would say.  A student that
imitates its probabilities is led astray, or so its authors claim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.system.checks import require


def contradiction(logits: Tensor, normal_logits: Tensor, temperature: float) -> Tensor:
    """τ² · KL(softmax(z / τ) ‖ softmax(v / τ)), mean over the batch, of a teacher z and a normal network v [B, classes].

    The teacher comes *first*: it is rewarded for being sure of what the normal network holds for unlikely, which is how
    several peaks arise.  The gradient goes to the teacher alone, through both its places in the divergence.
    """
    own = F.log_softmax(logits / temperature, -1)
    normal = F.log_softmax(normal_logits.detach() / temperature, -1)
    return temperature**2 * F.kl_div(normal, own, reduction="batchmean", log_target=True)


def nasty_loss(normal: nn.Module, temperature: float = 4.0, omega: float = 0.04, label_smoothing: float = 0.0):
    """A loss for :func:`lib.training.loop.fit` of a nasty teacher: CE(labels) - ω · :func:`contradiction` (equation 2).

    τ = 4 and ω = 0.04 are the authors' for CIFAR-10; for CIFAR-100 they take 20 and 0.005.  Puts the normal network into
    evaluation mode.  Logs ``train_accuracy`` and ``contradiction``.  Raises ValueError for settings out of range.
    """
    require(temperature > 0, f"temperature is {temperature}: it must be above 0")
    require(omega >= 0, f"omega is {omega}: it must not be negative, or the teacher would learn from the normal network")
    normal.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            usual = normal(inputs).float()
        logits = model(inputs).float()
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        apart = contradiction(logits, usual, temperature)
        return (
            F.cross_entropy(logits, targets, label_smoothing=label_smoothing) - omega * apart,
            {"train_accuracy": (logits.detach().argmax(-1) == labels).float().mean(), "contradiction": apart.detach()},
        )

    return loss
