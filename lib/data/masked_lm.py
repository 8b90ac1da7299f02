"""BERT's pre-training (Devlin et al., arXiv 1810.04805): predict hidden tokens, and whether one text follows another.

special = Special.after(text.vocabulary)
stream = special.stream(text.train.tokens, text.end)
batches = MaskedBatches(stream, sentence_starts(stream, special, enders), special, context=64, batch_size=32, steps=500)
(tokens_BN, places_BK), (hidden_BK, elsewhere_B) = batches.batch(epoch=0, step=0)
"""

# A model's own methods (``model.both``): to torch's types each attribute of a module is a tensor or a module.
# pyright: reportCallIssue=false

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.system.checks import require
from lib.system.precision import autocast

#: The share of the tokens that BERT predicts, and of these the shares that are hidden by [MASK] and by a random token; the
#: rest is left as it is (its section 3.1).
CHOSEN, HIDDEN, SWAPPED = 0.15, 0.8, 0.1


@dataclass(frozen=True)
class Special:
    """The tokens that BERT adds to a vocabulary: padding, start, separator, and what hides a token."""

    pad: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def after(cls, vocabulary: int) -> Special:
        """The four tokens that follow a tokenizer's ``vocabulary`` tokens; a model needs ``vocabulary + 4``."""
        return cls(*range(vocabulary, vocabulary + 4))

    @property
    def total(self) -> int:
        """How many tokens there are, these four included."""
        return self.mask + 1

    def stream(self, tokens: Tensor, end: int) -> Tensor:
        """A stream of stories [T] in which each ``end`` of a story became a separator."""
        return torch.where(tokens == end, self.sep, tokens)


class MaskedBatches:
    """Pairs of texts from a stream, [CLS] a [SEP] b [SEP], in which a share of the tokens, ``chosen``, is to be predicted.

    ``batch(epoch, step)`` gives ((tokens [B, N], places [B, K]), (hidden [B, K], elsewhere [B])), all int64:
    N = ``context``, K = ``chosen`` · N; ``hidden`` are the tokens that stood at ``places``.  Of these 80 % read [MASK],
    10 % a random token and 10 % what they were.  Special tokens are never chosen.  K is the same in all rows, where BERT
    draws each token by itself.

    Text b begins where a sentence does.  In half of the rows it is what follows a; in the others it is from elsewhere in the
    stream, and ``elsewhere`` is 1.  Text a is a quarter to a half of the row, and may begin inside a sentence.

    A batch depends on (seed, epoch, step) and nothing else.  Random numbers come from the CPU, so that each device sees the
    same batches.  ``starts``: where sentences begin, see :func:`sentence_starts`.  Raises ValueError for sizes that do
    not fit.
    """

    def __init__(
        self,
        stream: Tensor,
        starts: Tensor,
        special: Special,
        context: int,
        batch_size: int,
        steps: int,
        seed: int | str = 0,
        chosen: float = CHOSEN,
    ) -> None:
        require(0 < chosen <= 0.5, f"chosen is {chosen}: predict a share of the tokens above 0, and at most half of them")
        require(min(batch_size, steps) >= 1, f"batch_size={batch_size} and steps={steps} must each be at least 1")
        require(context >= 8, f"context is {context}: a pair of texts has at least 8 tokens")
        self.starts = starts[(starts >= context) & (starts <= len(stream) - context)]
        require(
            len(self.starts),
            f"no sentence of this stream of {len(stream)} tokens has {context} tokens on both sides: give more text or a shorter context",
        )
        self.stream, self.special, self.steps = stream, special, steps
        self.context, self.batch_size, self.seed = context, batch_size, seed
        self.chosen = max(1, round(chosen * context))

    def batch(self, epoch: int, step: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} lies outside the epoch's {self.steps} steps")
        key = hashlib.sha256(f"masks/{self.seed}/{epoch}/{step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
        B, N, device, special = self.batch_size, self.context, self.stream.device, self.special
        drawn = (
            torch.randint(N // 4, N // 2 + 1, (B, 1), generator=generator),
            torch.randint(2, (B, 1), generator=generator),
            torch.randint(len(self.starts), (2, B, 1), generator=generator),
            torch.rand(B, N, generator=generator),
            torch.rand(B, self.chosen, generator=generator),
            torch.randint(special.pad, (B, self.chosen), generator=generator),
        )
        length, elsewhere, begin, order, fate, others = (part.to(device, non_blocking=True) for part in drawn)

        begin, other = self.starts[begin[0]], self.starts[begin[1]]
        place = torch.arange(N, device=device)
        first, second = begin - length - 1 + place, torch.where(elsewhere == 1, other, begin) - length - 2 + place
        tokens = self.stream[torch.where(place <= length, first, second)]
        tokens = torch.where((place == length + 1) | (place == N - 1), special.sep, tokens)
        tokens = torch.where(place == 0, special.cls, tokens)

        places = order.masked_fill(tokens >= special.pad, -1).topk(self.chosen).indices
        hidden = tokens.gather(1, places)
        shown = torch.where(fate < HIDDEN, special.mask, torch.where(fate < HIDDEN + SWAPPED, others, hidden))
        return (tokens.scatter(1, places, shown), places), (hidden, elsewhere[:, 0])


def sentence_starts(stream: Tensor, special: Special, enders: Sequence[int]) -> Tensor:
    """Places [S] of the stream after one of the tokens ``enders`` where no separator stands."""
    ended = torch.isin(stream[:-1], torch.tensor(enders, device=stream.device)) & (stream[1:] < special.pad)
    return 1 + ended.nonzero()[:, 0]


def masked_lm_loss(model: nn.Module, inputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of the hidden tokens, in nats; logs ``train_accuracy``, how many were guessed."""
    hidden_BK, _ = targets
    logits = model(*inputs).float()
    accuracy = (logits.detach().argmax(-1) == hidden_BK).float().mean()
    return F.cross_entropy(logits.flatten(0, 1), hidden_BK.flatten()), {"train_accuracy": accuracy}


def pretraining_loss(model: nn.Module, inputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """BERT's loss: that of :func:`masked_lm_loss` plus the cross-entropy of whether the second text follows the first."""
    hidden_BK, elsewhere_B = targets
    logits, follows = (part.float() for part in model.both(*inputs))
    told = F.cross_entropy(follows, elsewhere_B)
    return F.cross_entropy(logits.flatten(0, 1), hidden_BK.flatten()) + told, {
        "train_accuracy": (logits.detach().argmax(-1) == hidden_BK).float().mean(),
        "train_next_loss": told.detach(),
    }


@torch.no_grad()
def evaluate_masked(model: nn.Module, batches: MaskedBatches, precision: str = "fp32") -> dict[str, float]:
    """``{"loss", "accuracy", "next_accuracy"}`` on the batches of epoch 0: nats per hidden token, the share of them that is
    guessed, and the share of pairs that are rightly told to follow each other or not.
    """
    device, mode = next(model.parameters()).device, model.training
    model.eval()
    found = []
    for step in range(batches.steps):
        (tokens, places), (hidden, elsewhere) = batches.batch(0, step)
        hidden, elsewhere = hidden.to(device), elsewhere.to(device)
        with autocast(device, precision):
            logits, follows = model.both(tokens.to(device), places.to(device))
        found.append(
            torch.stack(
                [
                    F.cross_entropy(logits.float().flatten(0, 1), hidden.flatten()),
                    (logits.argmax(-1) == hidden).float().mean(),
                    (follows.argmax(1) == elsewhere).float().mean(),
                ]
            )
        )
    model.train(mode)
    return dict(zip(("loss", "accuracy", "next_accuracy"), torch.stack(found).mean(0).tolist()))
