"""Self-distillation: a network's shallow classifiers learn from its deeper ones (Zhang, Bao and Ma, TPAMI 2022).

All classifiers are trained at once, in one network and one run.  See :mod:`lib.distillation.exits` for the network and
:mod:`lib.distillation.self_losses` for the losses of one classifier.  The released code puts a linear layer between each
classifier's features and the hint; here they have one width and are compared as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.distillation.self_losses import belief_loss, hint_loss
from lib.system.checks import one_of, require

#: What a shallow classifier learns from.
REFERENCES = ("deepest", "ensemble", "transitive", "dense")


def references(values_KBX: Tensor, choice: str) -> list[Tensor]:
    """What each of the K - 1 shallow classifiers learns from, a list of [R, B, X], of values [K, B, X], shallowest first.

    "deepest": the last one; "ensemble": the mean of all; "transitive": the next deeper one; "dense": all deeper ones, R of
    them.  Section 3.4 of the paper.  No gradient passes to a reference.
    """
    one_of("choice", choice, REFERENCES)
    values_KBX = values_KBX.detach()
    shallow = range(len(values_KBX) - 1)
    if choice == "deepest":
        return [values_KBX[-1:] for _ in shallow]
    if choice == "ensemble":
        return [values_KBX.mean(0, keepdim=True) for _ in shallow]
    return [values_KBX[k + 1 : k + 2] if choice == "transitive" else values_KBX[k + 1 :] for k in shallow]


def self_distillation(
    logits_KBC: Tensor,
    features_KBD: Tensor,
    targets: Tensor,
    *,
    alpha: float = 0.3,
    weight: float = 0.03,
    temperature: float = 3.0,
    reference: str = "deepest",
) -> dict[str, Tensor]:
    """The three parts of the loss, already weighted: ``labels``, ``teacher``, ``hints``.  They are to be added.

    labels: CE of the deepest classifier + (1 - α) · CE of each shallow one; teacher: α · :func:`belief_loss` of each;
    hints: λ · :func:`hint_loss` of each, ``weight`` being λ, but for the deepest shallow one, which the released code leaves
    out.  With several references each counts for its share.  Defaults are the authors'.  The hint is one norm over the
    batch, as in their code: about √B times a mean over B images, so λ depends on the batch size.
    """
    shallow = range(len(logits_KBC) - 1)
    labels = F.cross_entropy(logits_KBC[-1], targets)
    teacher = hints = logits_KBC.new_zeros(())
    taught, hinted = references(logits_KBC, reference), references(features_KBD, reference)
    for k in shallow:
        labels = labels + (1 - alpha) * F.cross_entropy(logits_KBC[k], targets)
        teacher = teacher + alpha * torch.stack([belief_loss(logits_KBC[k], r, temperature) for r in taught[k]]).mean()
        if k < len(shallow) - 1:
            hints = hints + weight * torch.stack([hint_loss(features_KBD[k], r) for r in hinted[k]]).mean()
    return {"labels": labels, "teacher": teacher, "hints": hints}


def self_distillation_loss(alpha: float = 0.3, weight: float = 0.03, temperature: float = 3.0, reference: str = "deepest"):
    """A loss for :func:`lib.training.loop.fit` and an :class:`~lib.distillation.exits.ExitNet`: :func:`self_distillation`.

    With α = 0 and λ = 0 it is deep supervision: every classifier learns from labels alone.  Logs each part, and
    ``train_accuracy`` of the deepest classifier.  Raises ValueError for settings out of range.
    """
    require(0 <= alpha <= 1, f"alpha is {alpha}: it must be in [0, 1], the reference's share of a shallow classifier's loss")
    require(weight >= 0, f"weight is {weight}: the hints' λ must not be negative")
    require(temperature > 0, f"temperature is {temperature}: it must be above 0")
    one_of("reference", reference, REFERENCES)

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits_KBC, features_KBD = model.all_exits(inputs)
        parts = self_distillation(
            logits_KBC, features_KBD, targets, alpha=alpha, weight=weight, temperature=temperature, reference=reference
        )
        labels = targets if targets.ndim == 1 else targets.argmax(-1)
        accuracy = (logits_KBC[-1].detach().argmax(-1) == labels).float().mean()
        logged = {f"{name}_loss": part.detach() for name, part in parts.items()}
        return sum(parts.values()), {"train_accuracy": accuracy} | logged

    return loss
