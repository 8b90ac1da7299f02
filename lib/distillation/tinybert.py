"""TinyBERT's four losses (Jiao et al. 2020, arXiv 1909.10351, section 3.1).

A student with M layers learns, layer by layer, the attention and the hidden states of a teacher with N layers, its
embeddings and, in the second stage, its predictions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def layer_map(student_layers: int, teacher_layers: int, kind: str = "uniform") -> tuple[int, ...]:
    """The teacher's layer, counted from 1, for each of the student's layers 1 … M (table 5).

    "uniform": g(m) = m · N / M, which is 3m for 4 of 12; "top": the last M layers; "bottom": the first.  Embeddings and
    predictions map onto each other in any case.  Raises ValueError where there is no such map.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(f"{student_layers} layers cannot follow {teacher_layers}: a student has as many layers as its teacher at most")
    if kind == "uniform":
        if teacher_layers % student_layers:
            raise ValueError(
                f"{student_layers} layers do not divide {teacher_layers} evenly: choose a divisor, or the map 'top' or 'bottom'"
            )
        step = teacher_layers // student_layers
        return tuple(range(step, teacher_layers + 1, step))
    if kind == "top":
        return tuple(range(teacher_layers - student_layers + 1, teacher_layers + 1))
    if kind == "bottom":
        return tuple(range(1, student_layers + 1))
    raise ValueError(f"kind is {kind!r}: use one of 'uniform', 'top', 'bottom'")


def attention_loss(student_BHNN: Tensor, teacher_BHNN: Tensor, real_BN: Tensor | None = None) -> Tensor:
    """Mean over heads of the mean squared difference of attention scores *before* the softmax [B, H, N, N] (equation 7).

    real: bool [B, N], false at padding; pairs with padding on either side are left out of the mean.  No gradient passes to
    the teacher.  Raises ValueError for unlike numbers of heads or tokens.
    """
    if student_BHNN.shape != teacher_BHNN.shape:
        raise ValueError(
            f"attention of shape {tuple(student_BHNN.shape)} and {tuple(teacher_BHNN.shape)}: "
            "student and teacher need the same heads and tokens"
        )
    real = None if real_BN is None else (real_BN[:, None, :, None] & real_BN[:, None, None, :]).expand_as(student_BHNN)
    return mean_square(student_BHNN, teacher_BHNN, real)


def hidden_loss(projected_BND: Tensor, teacher_BND: Tensor, real_BN: Tensor | None = None) -> Tensor:
    """Mean squared difference of the projected hidden states H_s·W_h and H_t [B, N, D] (equation 8); embeddings alike (9).

    ``projected``: the student's states, wider by a linear map that all layers share and that is trained.  real: bool
    [B, N], false at padding.  No gradient passes to the teacher.
    """
    if projected_BND.shape != teacher_BND.shape:
        raise ValueError(
            f"hidden states of shape {tuple(projected_BND.shape)} and {tuple(teacher_BND.shape)}: project the "
            "student's to the teacher's width"
        )
    return mean_square(projected_BND, teacher_BND, None if real_BN is None else real_BN[..., None].expand_as(projected_BND))


#: The embeddings' loss is the hidden states' (equation 9), with a projection of its own.
embedding_loss = hidden_loss


def prediction_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """CE(softmax(z_t / t), z_s / t), mean over the batch, t = 1 (equation 10); no factor t².

    It is KL(teacher ‖ student) plus the teacher's entropy, which no student can change.  No gradient passes to the teacher.
    """
    return F.cross_entropy(student_logits / temperature, (teacher_logits.detach() / temperature).softmax(-1))


def mean_square(student: Tensor, teacher: Tensor, kept: Tensor | None) -> Tensor:
    squares = (student - teacher.detach()).pow(2)
    if kept is None:
        return squares.mean()
    return squares.where(kept, 0).sum() / kept.sum().clamp(min=1)
