"""The three losses of self-distillation (Zhang et al. 2022, IEEE TPAMI 44(8); its short form is arXiv 1905.08094).

Classifiers at several depths of one network learn from the labels, from a reference classifier's beliefs, and from its
features. Which classifier is the reference is the caller's choice; the deepest one learns from labels alone.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def belief_loss(logits: Tensor, reference_logits: Tensor, temperature: float = 3.0) -> Tensor:
    """KL(reference ‖ classifier) at temperature T, mean over the batch, *without* T² (equation 3).

    The paper writes cross-entropy, which differs by the reference's entropy and has the same gradient.  Leaving T² out makes
    this a ninth of Hinton's at T = 3.  No gradient passes to the reference.
    """
    return F.kl_div(
        F.log_softmax(logits / temperature, -1),
        F.log_softmax(reference_logits.detach() / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )


def hint_loss(aligned_features: Tensor, reference_features: Tensor) -> Tensor:
    """‖A F_i - F_ref‖₂ over all features of a batch at once: the norm itself and not its square (equation 4), and one norm
    of the batch, not a mean over its images, as in the released code, to which λ = 0.03 belongs.

    Features of any one shape [B, …].  No gradient passes to the reference.
    """
    return (aligned_features - reference_features.detach()).norm()


def shallow_loss(
    logits: Tensor,
    targets: Tensor,
    reference_logits: Tensor,
    aligned_features: Tensor,
    reference_features: Tensor,
    alpha: float = 0.3,
    hint_weight: float = 0.03,
    temperature: float = 3.0,
) -> Tensor:
    """(1 - α) CE(labels) + α · beliefs + λ · hint of one shallow classifier, α = 0.3, λ = 0.03, T = 3."""
    return (
        (1 - alpha) * F.cross_entropy(logits, targets)
        + alpha * belief_loss(logits, reference_logits, temperature)
        + hint_weight * hint_loss(aligned_features, reference_features)
    )
