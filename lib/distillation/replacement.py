"""More examples by replacing words, TinyBERT's data augmentation (Jiao et al. 2020, arXiv 1909.10351, algorithm 1).

A masked language model says what else could stand in a place.  The paper asks it once for each word of one piece, and takes
words that are near in GloVe for those of several; here every token is one piece, and several places that lie ``passes``
tokens apart are hidden at once, which costs ``passes`` forward passes instead of one for each place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.data.masked_lm import Special
from lib.data.tasks import TaskSplit
from lib.models.encoder import MaskedLM
from lib.system.checks import require


@torch.no_grad()
def candidates(model: MaskedLM, tokens_BN: Tensor, special: Special, count: int = 15, passes: int = 8) -> Tensor:
    """The ``count`` likeliest tokens for each place, int64 [B, N, count], special tokens excluded.

    A place's own token is hidden meanwhile.  Nothing attends to padding, and nothing reads its candidates.
    """
    require(count >= 1 and passes >= 1, f"count is {count}, passes is {passes}: each must be at least 1")
    model.eval()
    found = torch.empty(*tokens_BN.shape, count, dtype=torch.int64, device=tokens_BN.device)
    places_N = torch.arange(tokens_BN.shape[1], device=tokens_BN.device)
    for turn in range(passes):
        hidden_N = places_N % passes == turn
        shown_BN = torch.where(hidden_N & (tokens_BN < special.pad), special.mask, tokens_BN)
        logits_BNV = model(shown_BN, places_N[hidden_N].expand(len(tokens_BN), -1), padding_BN=tokens_BN == special.pad)
        found[:, hidden_N] = logits_BNV[..., : special.pad].topk(count).indices
    return found


def replaced(tokens_BN: Tensor, candidates_BNK: Tensor, special: Special, probability: float, generator: torch.Generator) -> Tensor:
    """Each token becomes one of its candidates, all equally likely, with this probability; special tokens stay."""
    shape, device = tokens_BN.shape, tokens_BN.device
    draw = torch.rand(shape, generator=generator).to(device)
    which = torch.randint(candidates_BNK.shape[-1], shape, generator=generator).to(device)
    other_BN = candidates_BNK.gather(-1, which[..., None])[..., 0]
    return torch.where((draw < probability) & (tokens_BN < special.pad), other_BN, tokens_BN)


def augmented(
    split: TaskSplit,
    model: MaskedLM,
    special: Special,
    copies: int,
    *,
    probability: float = 0.4,
    count: int = 15,
    seed: int = 0,
    batch_size: int = 250,
) -> TaskSplit:
    """The split, and behind it ``copies`` more of it with words replaced; labels are those of the originals.

    The paper replaces with probability 0.4 among 15 candidates, 20 times.  A replaced word may make an example's label
    wrong, so that only a teacher's word about it can be trusted; that is how the paper uses them.
    """
    if not copies:
        return split
    generator = torch.Generator().manual_seed(seed)
    found = torch.cat([candidates(model, part, special, count) for part in split.tokens.split(batch_size)])
    more = [replaced(split.tokens, found, special, probability, generator) for _ in range(copies)]
    return TaskSplit(torch.cat([split.tokens, *more]), split.lengths.repeat(1 + copies), split.labels.repeat(1 + copies))
