"""EarlyBERT: structured tickets drawn early in training, by learnt coefficients (Chen et al., arXiv 2101.00063).

1. *Search*: each head's output and each FFN neuron is multiplied by a coefficient c, 1 at first, trained with the network
   under L = CE + λ‖c‖₁ (equations 2 to 4).
2. *Draw*: in each layer the third of the heads with the smallest |c| goes, and of all neurons together the 40 % with the
   smallest.  It is time to draw when the last checks' masks hardly differ (early-bird, You et al., arXiv 1909.11957).
3. *Train* the network without these heads and neurons from its original weights.

The coefficients serve the choice only; the network that is trained has none, as released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.encoder import Classifier
from lib.system.checks import require

#: λ, and the shares of heads (of each layer) and of neurons (of all) that go, as published and released.
PENALTY, HEADS, NEURONS = 1e-4, 1 / 3, 0.4

#: "Hardly differ": by less than one per cent from each of the five checks before.  The released script does without the
#: comparison and draws after a fifth of an epoch.
NEAR, LAST = 0.01, 5
DRAWN_AT = 0.2


@dataclass(frozen=True, eq=False)
class Ticket:
    """Which heads (bool [L, H]) and which neurons (bool [L, hidden]) stay."""

    heads: Tensor
    neurons: Tensor

    def gates(self) -> dict[str, list[Tensor]]:
        """Keyword arguments for an encoder's ``forward`` and for :func:`lib.models.encoder_remove.smaller`."""
        return {"head_masks": list(self.heads.float()[:, None]), "neuron_masks": list(self.neurons.float()[:, None])}


def draw(heads: Tensor, neurons: Tensor, head_share: float = HEADS, neuron_share: float = NEURONS) -> Ticket:
    """The ticket of these coefficients, heads [L, H] and neurons [L, hidden].

    ``head_share`` of each layer's heads and ``neuron_share`` of all neurons go, rounded to whole ones; of equal ones
    the first.  The released code compares coefficients with their sign; none of them becomes negative in its short search.
    """
    require(0 <= head_share < 1 and 0 <= neuron_share < 1, f"shares {head_share} and {neuron_share} must be in [0, 1)")
    gone = round(head_share * heads.shape[1])
    keep_heads = torch.ones_like(heads, dtype=torch.bool)
    keep_heads.scatter_(1, heads.detach().abs().argsort(dim=1, stable=True)[:, :gone], False)
    keep_neurons = torch.ones(neurons.numel(), dtype=torch.bool, device=neurons.device)
    keep_neurons[neurons.detach().abs().flatten().argsort(stable=True)[: round(neuron_share * neurons.numel())]] = False
    return Ticket(keep_heads, keep_neurons.view(neurons.shape))


def random_ticket(layers: int, heads: int, hidden: int, seed: int, head_share: float = HEADS, neuron_share: float = NEURONS) -> Ticket:
    """A ticket of random coefficients: the same number of heads in each layer, neurons anywhere."""
    generator = torch.Generator().manual_seed(seed)
    return draw(torch.rand(layers, heads, generator=generator), torch.rand(layers, hidden, generator=generator), head_share, neuron_share)


class Slimmed(nn.Module):
    """A classifier with a coefficient on each head and each neuron, and what was drawn at each check.

    ``heads``, ``neurons``  one vector per layer, trained; vectors, so that optimisers leave them without weight decay
    ``drawn_heads`` [checks, L, H], ``drawn_neurons`` [checks, L, hidden], ``checks``: the tickets so far (buffers, so that a
    resumed training knows them)
    ``shares``  of heads and of neurons that go, see :func:`draw`
    """

    def __init__(self, model: Classifier, checks: int, head_share: float = HEADS, neuron_share: float = NEURONS):
        super().__init__()
        self.model, self.shares = model, (head_share, neuron_share)
        blocks = list(model.encoder.blocks)
        L, H, h = len(blocks), blocks[0].attention.heads, blocks[0].ffn.up.out_features
        require(all((b.attention.heads, b.ffn.up.out_features) == (H, h) for b in blocks), "all layers must be of one size")
        device = model.head.weight.device
        self.heads = nn.ParameterList(torch.ones(H, device=device) for _ in blocks)
        self.neurons = nn.ParameterList(torch.ones(h, device=device) for _ in blocks)
        self.register_buffer("drawn_heads", torch.zeros(checks, L, H, dtype=torch.bool, device=device))
        self.register_buffer("drawn_neurons", torch.zeros(checks, L, h, dtype=torch.bool, device=device))
        self.register_buffer("checks", torch.zeros((), dtype=torch.int64, device=device))

    def forward(self, tokens_BN: Tensor) -> Tensor:
        return self.model(tokens_BN, head_masks=[c[None] for c in self.heads], neuron_masks=[c[None] for c in self.neurons])

    def norm(self) -> Tensor:
        """‖c‖₁ over heads and neurons."""
        return sum(c.abs().sum() for c in [*self.heads, *self.neurons])

    @torch.no_grad()
    def check(self) -> None:
        """Draw a ticket and remember it.  Raises ValueError when there is no room for another."""
        place = int(self.checks)
        require(place < len(self.drawn_heads), f"there is room for {len(self.drawn_heads)} checks: ask for more")
        ticket = draw(torch.stack(list(self.heads)), torch.stack(list(self.neurons)), *self.shares)
        self.drawn_heads[place], self.drawn_neurons[place] = ticket.heads, ticket.neurons
        self.checks += 1

    def ticket(self, check: int) -> Ticket:
        """What was drawn at a check, from 0; -1 is the last.  On the CPU."""
        kept = int(self.checks)
        return Ticket(self.drawn_heads[:kept][check].clone().cpu(), self.drawn_neurons[:kept][check].clone().cpu())


def slimming_loss(penalty: float = PENALTY):
    """A loss for :func:`lib.training.loop.fit`: cross-entropy of a :class:`Slimmed` classifier + penalty · ‖c‖₁."""

    def loss(model: Slimmed, tokens: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(tokens).float()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels) + penalty * model.norm(), {"train_accuracy": accuracy}

    return loss


def check_every(steps: int, total: int) -> Callable[[Slimmed, int], None]:
    """The hook for :func:`lib.training.loop.fit`: a check after every ``steps`` steps, and after the last of ``total``."""

    def after_step(model: Slimmed, step: int) -> None:
        if step % steps == 0 or step == total:
            model.check()

    return after_step


def distances(drawn: Tensor) -> Tensor:
    """How far each check's mask is from those of the ``LAST`` checks before it: the largest share of entries that differ.

    drawn: bool [checks, …].  Returns [checks], infinite for the first ``LAST``, which have too little to compare with.
    """
    flat = drawn.flatten(1)
    found = torch.full((len(flat),), float("inf"))
    for place in range(LAST, len(flat)):
        found[place] = (flat[place - LAST : place] != flat[place]).float().mean(1).max()
    return found


def early_bird(heads: Tensor, neurons: Tensor, near: float = NEAR) -> int | None:
    """The first check at which the whole mask, heads and neurons together, hardly differs from the last ones; None if never.

    heads [checks, L, H], neurons [checks, L, hidden].
    """
    settled = (distances(torch.cat([heads.flatten(1), neurons.flatten(1)], 1)) < near).nonzero()
    return int(settled[0]) if len(settled) else None
