"""TinyBERT's student beside its teacher: what both compute at each layer, and its loss (arXiv 1909.10351, section 3.1).

student = TinyStudent(Classifier(Encoder(small), classes, pad), teacher.encoder.config.width)
parts = layer_losses(student, teacher.encoder, tokens_BN, padding_BN, layer_map(2, 4))
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.distillation.tinybert import attention_loss, embedding_loss, hidden_loss, prediction_loss
from lib.models.encoder import Attention, Classifier, Encoder
from lib.system.checks import require


@dataclass(frozen=True)
class Seen:
    """Of one batch: ``embedding`` [B, N, D] as the first block gets it, and of each block ``hidden`` [B, N, D] behind it and
    ``scores`` [B, H, N, N] of its attention before the softmax.
    """

    embedding: Tensor
    hidden: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]


def observe(encoder: Encoder, tokens_BN: Tensor, padding_BN: Tensor | None = None) -> Seen:
    """Run the encoder block by block; ``hidden[-1]`` is what ``encoder(tokens, padding)`` returns."""
    x_BND, seen_B11N = encoder.start(tokens_BN, padding_BN)
    embedding, hidden, scores = x_BND, [], []
    for block in encoder.blocks:
        scores.append(attention_scores(block.attention, x_BND))
        x_BND = block(x_BND, seen_B11N)
        hidden.append(x_BND)
    return Seen(embedding, tuple(hidden), tuple(scores))


def attention_scores(attention: Attention, x_BND: Tensor) -> Tensor:
    """q kᵀ / √d, [B, H, N, N]; queries and keys are computed once more for it."""
    B, N, _ = x_BND.shape
    q, k = (layer(x_BND).view(B, N, attention.heads, attention.head_dim).transpose(1, 2) for layer in (attention.q, attention.k))
    return q @ k.transpose(-1, -2) * attention.head_dim**-0.5


class TinyStudent(nn.Module):
    """A small classifier with the two linear maps that bring its hidden states and its embeddings to the teacher's width.

    Called with tokens, it is the classifier; the maps are used in training only.  All layers share one map.
    """

    def __init__(self, classifier: Classifier, teacher_width: int):
        super().__init__()
        width = classifier.encoder.config.width
        self.classifier = classifier
        self.hidden = nn.Linear(width, teacher_width, bias=False)
        self.embedding = nn.Linear(width, teacher_width, bias=False)

    def forward(self, tokens_BN: Tensor) -> Tensor:
        return self.classifier(tokens_BN)


def layer_losses(
    student: TinyStudent, teacher: Encoder, tokens_BN: Tensor, padding_BN: Tensor | None, layers: tuple[int, ...]
) -> dict[str, Tensor]:
    """``attention``, ``hidden`` and ``embedding``: equations 7 to 9, summed over the student's layers.

    ``layers``: the teacher's layer, from 1, of each of the student's, as :func:`~lib.distillation.tinybert.layer_map` gives
    them.  Padding counts for nothing.  Raises ValueError for another number of layers.
    """
    own = observe(student.classifier.encoder, tokens_BN, padding_BN)
    with torch.no_grad():
        other = observe(teacher, tokens_BN, padding_BN)
    require(
        len(layers) == len(own.hidden), f"{len(layers)} of the teacher's layers for {len(own.hidden)} of the student's: give one for each"
    )
    real_BN = None if padding_BN is None else ~padding_BN
    pairs = [(m, g - 1) for m, g in enumerate(layers)]
    return {
        "attention": sum(attention_loss(own.scores[m].float(), other.scores[g].float(), real_BN) for m, g in pairs),
        "hidden": sum(hidden_loss(student.hidden(own.hidden[m]).float(), other.hidden[g].float(), real_BN) for m, g in pairs),
        "embedding": embedding_loss(student.embedding(own.embedding).float(), other.embedding.float(), real_BN),
    }


def layers_loss(teacher: Encoder, layers: tuple[int, ...], pad: int | None):
    """A loss for :func:`lib.training.loop.fit`: the sum of :func:`layer_losses`, each of which is logged.

    ``pad``: the token that only fills up rows; None: there is none.  Inputs may be (tokens, anything); targets are not used.
    """
    teacher.eval()

    def loss(model: TinyStudent, inputs: Tensor | tuple[Tensor, ...], targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tokens_BN = inputs[0] if isinstance(inputs, tuple) else inputs
        parts = layer_losses(model, teacher, tokens_BN, None if pad is None else tokens_BN == pad, layers)
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}

    return loss


def predictions_loss(teacher: nn.Module):
    """A loss for :func:`lib.training.loop.fit`: cross-entropy with the teacher's probabilities (equation 10, t = 1); labels are
    not used.
    """
    teacher.eval()

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():
            taught = teacher(inputs).float()
        logits = model(inputs).float()
        agreement = (logits.detach().argmax(-1) == taught.argmax(-1)).float().mean()
        return prediction_loss(logits, taught), {"agreement": agreement}

    return loss
