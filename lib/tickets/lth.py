"""Iterative magnitude pruning of a pre-trained encoder (Chen et al. 2020, arXiv 2007.12223, algorithm 1).

Train all weights; remove a tenth of them, the smallest; set the others back to what they were before training; and again.
What is left is a subnetwork of the *pre-trained* network, f(x; m ⊙ θ₀).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lib.models.encoder import Encoder
from lib.pruning import allocate, score
from lib.pruning.mask import Masks, attach, masks_of, prunable
from lib.system.checks import require

#: Trains a model where it is; the second argument is called after each step with (model, step).
Train = Callable[[nn.Module, Callable[[nn.Module, int], None] | None, int], Any]


@dataclass(frozen=True, eq=False)
class Round:
    """One round: the share of weights that were missing in training, and what training returned."""

    sparsity: float
    masks: Masks
    outcome: Any


def smallest_removed(encoder: Encoder, sparsity: float) -> Masks:
    """Masks without the ``sparsity`` of all weights that are smallest now, all layers compared together.

    Pruned are the matrices of the blocks, q, k, v, out, up and down; embeddings, biases, norms and heads stay, as in the
    paper.  (It also prunes BERT's pooler, under one per cent of its weights; here it is part of the head, and stays.)
    Weights that are masked already count as 0, so that they stay out.
    """
    return allocate.masks(score.magnitude(prunable(encoder)), 1.0 - sparsity)


def randomly_removed(encoder: Encoder, sparsity: float, seed: int) -> Masks:
    """Masks without that share of all weights, each as likely as any other."""
    return allocate.masks(score.random(prunable(encoder), seed), 1.0 - sparsity)


def iterative_pruning(
    make: Callable[[], nn.Module], train: Train, sparsities: Iterable[float], *, rewind: float | None = 0.0, steps: int = 0
) -> tuple[list[Round], nn.Module]:
    """Rounds at sparsity 0 and at each of ``sparsities``, in rising order, and the model of the last, trained and masked.

    make()       a model as it is before training, with an ``encoder``; the same each time
    train(model, after_step, round)  trains it, and returns what the round is to remember
    sparsities   shares of the *original* weights that are gone; the paper's are 0.1, 0.2, …
    rewind       what the remaining weights are set back to: 0.0, as they were before training; a share of the first
                 training, of ``steps`` steps, after which they are taken (rewinding); None: they stay as trained (standard
                 pruning)

    Each round trains for the whole recipe, also after rewinding, where the paper trains for what is left of it; the
    optimizer always starts afresh.
    """
    levels = [0.0, *sparsities]
    require(levels == sorted(set(levels)) and levels[-1] < 1, f"sparsities are {levels[1:]}: give rising shares between 0 and 1")
    require(rewind is None or 0 <= rewind < 1, f"rewind is {rewind}: it must be a share of the training, or None")
    origin: dict[str, torch.Tensor] = {}
    taken = max(1, round(rewind * steps)) if rewind else 0

    def keep(model: nn.Module, step: int) -> None:
        if step == taken:
            origin.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    rounds, model = [], make()
    for number, sparsity in enumerate(levels):
        masks: Masks = {}
        if number:
            masks = smallest_removed(model.encoder, sparsity)
            if rewind is not None:
                model = make()
                if taken:
                    require(
                        bool(origin),
                        "the first training never reached the step to rewind to: it diverged, or was "
                        "resumed after it. Run it again from its beginning",
                    )
                    model.load_state_dict(origin)
            attach(model.encoder, masks)
        outcome = train(model, keep if number == 0 and taken else None, number)
        rounds.append(Round(sparsity, masks and masks_of(model.encoder), outcome))
    return rounds, model
