"""What heads look at: how much of their attention goes to special tokens, to a token itself, to its neighbours, elsewhere.

Prasanna et al. (arXiv 2005.00561, section 5.2) sort heads by pictures of their attention into vertical, diagonal and other
patterns, and ask whether the survivors are those of the others, which may say something about language.  Here each pattern is
what it attends to, measured: vertical is attention to [CLS] and [SEP], diagonal that to a token itself and its neighbours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.data.tasks import TaskSplit, rows
from lib.models.encoder import Attention, Classifier

#: Where attention goes; a place that is of several kinds counts for the first.
KINDS = ("[CLS]", "[SEP]", "itself", "the token before", "the token after", "elsewhere")


@torch.no_grad()
def attention_patterns(model: Classifier, split: TaskSplit, separator: int, batch_size: int = 100) -> Tensor:
    """The share of each head's attention that goes to each of :data:`KINDS`, mean over all tokens of all texts: [L, H, 6].

    ``separator``: the number of [SEP].  Padding neither looks nor is looked at.  The model is used in evaluation mode and
    keeps its own.  Raises ValueError for a layer without heads.
    """
    encoder, device, mode = model.encoder, next(model.parameters()).device, model.training
    model.eval()
    sums, seen_tokens = torch.zeros(len(encoder.blocks), encoder.config.heads_by_layer[0], len(KINDS), device=device), 0
    for index in split.lengths.argsort(stable=True).split(batch_size):
        tokens_BN = rows(split, index)[0].to(device)
        there_BN = tokens_BN != model.pad
        kind_BNN = kinds(tokens_BN, separator)
        x_BND, seen = encoder.start(tokens_BN, ~there_BN)
        for layer, block in enumerate(encoder.blocks):
            attention_BHNN = weights(block.attention, x_BND, seen) * there_BN[:, None, :, None]
            for kind in range(len(KINDS)):
                sums[layer, :, kind] += (attention_BHNN * (kind_BNN == kind)[:, None]).sum((0, 2, 3))
            x_BND = block(x_BND, seen)
        seen_tokens += int(there_BN.sum())
    model.train(mode)
    return (sums / seen_tokens).cpu()


def kinds(tokens_BN: Tensor, separator: int) -> Tensor:
    """Which of :data:`KINDS` each key is for each query, int64 [B, N, N]."""
    place = torch.arange(tokens_BN.shape[1], device=tokens_BN.device)
    away_NN = place[None, :] - place[:, None]
    found = torch.full_like(away_NN, KINDS.index("elsewhere"))
    for kind, distance in (("itself", 0), ("the token before", -1), ("the token after", 1)):
        found[away_NN == distance] = KINDS.index(kind)
    found = found.expand(len(tokens_BN), -1, -1).clone()
    found[(tokens_BN == separator)[:, None, :].expand_as(found)] = KINDS.index("[SEP]")
    found[:, :, 0] = KINDS.index("[CLS]")
    return found


def weights(attention: Attention, x_BND: Tensor, seen_B11N: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d), [B, H, N, N]."""
    B, N, _ = x_BND.shape
    q, k = (layer(x_BND).view(B, N, attention.heads, attention.head_dim).transpose(1, 2) for layer in (attention.q, attention.k))
    scores = q @ k.transpose(-1, -2) / math.sqrt(attention.head_dim)
    return (scores if seen_B11N is None else scores.masked_fill(~seen_B11N, -math.inf)).softmax(-1)
