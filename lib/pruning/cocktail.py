"""Sparse Cocktail: one set of weights for many sparse networks, of three patterns and many levels (Li et al., ICML 2024).

Stage by stage, the masks of all patterns become sparser together, weights go back to the rewinding point, and batches take
turns between the patterns, with a dense one before each.  At the end the stages' weights are merged into one set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.pruning.mask import Masks, attached, ones, parametrization, set_masks
from lib.pruning.pieces import top
from lib.pruning.structure import NM
from lib.pruning.tickets import next_masks
from lib.system.checks import require
from lib.training.loop import Batches
from lib.training.losses import Loss

PATTERNS = ("unstructured", "channel", "n:m")

#: N:M levels, from the first stage to the last.  The authors' 1:2, 2:4 and 4:8 all keep one half; these differ.
LEVELS = (NM(3, 4), NM(2, 4), NM(1, 4))

#: Shares of the older weights that merging tries.
COEFFICIENTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

#: How much a weight counts for its channel where the unstructured mask keeps it; the rest where the N:M mask does.
SHARE = 0.8


def unified(
    weights: Mapping[str, Tensor], before: Mapping[str, Masks], stage: int, stages: int, amount: float = 0.2, channels: float = 0.1
) -> dict[str, Masks]:
    """The masks of each pattern at ``stage``, from 1 to ``stages``, made from one another so that they share weights.

    unstructured: the share ``amount`` of what the last stage kept goes, the smallest magnitudes of all layers.  n:m: the
    stage's level of :data:`LEVELS`; it stays as it is while the level does.  channel: of each layer's output channels
    (1 - channels)^stage stay, those with the highest Σ (0.8 · unstructured + 0.2 · n:m) · |w|.

    weights: all of them, trained and without masks.  before: the last stage's masks.  The first and the last layer stay
    whole.  Deviations: LEVELS, and that a level changes after each third of the stages; theirs at stages 1, 4 and 7 of 10.
    """
    require(1 <= stage <= stages, f"stage is {stage}: it must be from 1 to {stages}")
    magnitudes = {name: weight.detach().abs() for name, weight in weights.items()}
    middle = list(weights)[1:-1]
    found = {pattern: ones(weights) for pattern in PATTERNS}
    found["unstructured"] |= next_masks(
        {name: weights[name] for name in middle}, {name: before["unstructured"][name] for name in middle}, amount
    )
    level, last = ((s - 1) * len(LEVELS) // stages for s in (stage, stage - 1))
    for name in middle:
        found["n:m"][name] = before["n:m"][name] if stage > 1 and level == last else LEVELS[level].mask(magnitudes[name])
        merit = SHARE * found["unstructured"][name] + (1 - SHARE) * found["n:m"][name]
        strength = (merit * magnitudes[name]).flatten(1).sum(1)
        kept = top(strength, max(1, int(len(strength) * (1 - channels) ** stage)))
        found["channel"][name] = kept.view(-1, *[1] * (merit.ndim - 1)).expand_as(merit).clone()
    return found


class Turns:
    """Batches for :func:`lib.training.loop.fit`, each with the masks whose turn it is put into ``model``, which must have masks.

    With ``pivot``: dense, unstructured, dense, channel, dense, n:m, and so on.  Without: the sparse ones only, on the same
    batches as with it, so as many sparse steps and half as many in all, over which the learning rate falls as well; with
    ``every`` batch instead as many updates in all, and twice as many sparse steps.
    """

    def __init__(self, batches: Batches, model: nn.Module, masks: Mapping[str, Masks], pivot: bool, every: bool = False):
        self.batches, self.model, self.pivot = batches, model, pivot
        self.masks = dict(masks) | {"dense": ones(masks[PATTERNS[0]])}
        self.every = pivot or every
        self.steps = batches.steps if self.every else max(1, batches.steps // 2)
        self.order = tuple(turn for pattern in PATTERNS for turn in (("dense", pattern) if pivot else (pattern,)))
        self.turn = self.order[0]

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        self.turn = self.order[(epoch * self.steps + step) % len(self.order)]
        set_masks(self.model, self.masks[self.turn])
        return self.batches.batch(epoch, step if self.every else min(2 * step + 1, self.batches.steps - 1))


@contextlib.contextmanager
def wearing(model: nn.Module, masks: Masks) -> Iterator[None]:
    """Within this context ``model`` has these masks; they are lent, not copied."""
    own = {name: parametrization(module).mask for name, module in attached(model).items()}
    try:
        for name, module in attached(model).items():
            parametrization(module).mask = masks[name]
        yield
    finally:
        for name, module in attached(model).items():
            parametrization(module).mask = own[name]


def cocktail_loss(turns: Turns, distil: float = 0.5, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy with the labels; at sparse turns (1 - distil) of it, and ``distil`` of that with the dense output.

    The dense network is the model itself, at this moment, without masks and without a gradient.  Without a pivot it teaches
    all the same, though nothing has trained it as a whole since the rewinding: the two differ in the dense steps alone.
    """
    require(0 <= distil <= 1, f"distil is {distil}: it must be a share of the loss, in [0, 1]")

    def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(inputs).float()
        value = F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
        if turns.turn != "dense" and distil:
            with torch.no_grad(), wearing(model, turns.masks["dense"]):
                taught = model(inputs).float().softmax(-1)
            value = (1 - distil) * value + distil * F.cross_entropy(logits, taught)
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        return value, {"train_accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    return loss


State = dict[str, Tensor]


def merged(states: Sequence[State], score: Callable[[State, int], float]) -> tuple[State, list[float]]:
    """One set of weights from those of all stages, greedily, and the coefficients.

    From the first on: current ← p · current + (1 - p) · next, with the p of :data:`COEFFICIENTS` whose ``score(state,
    stages)`` is best, the mean accuracy of all sparse networks of the first so many stages on images held out.
    """
    require(states, "there is nothing to merge")
    current, chosen = states[0], []
    for number, state in enumerate(states[1:], 2):
        tried = {p: score(mixed(current, state, p), number) for p in COEFFICIENTS}
        best = max(tried, key=tried.get)
        chosen.append(best)
        current = mixed(current, state, best)
    return current, chosen


def mixed(old: State, new: State, share: float) -> State:
    """share · old + (1 - share) · new; counters are the new ones."""
    return {name: torch.lerp(value, old[name], share) if value.is_floating_point() else value for name, value in new.items()}
