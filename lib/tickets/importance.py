"""How much the loss depends on each head and on each FFN: gradients with respect to masks.

    I = E_x |∂L(x) / ∂ξ|

with a mask ξ on the output of a part (Michel et al., arXiv 1905.10650, section 4.1; Prasanna et al., arXiv 2005.00561,
section 3).  Both papers follow Molchanov et al. (arXiv 1611.06440) and divide the scores of each layer's heads by their L2
norm.  FFNs are compared with each other, never with heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.models.encoder import Classifier
from lib.system.checks import require
from lib.tickets.masks import Parts

#: Examples that are looked at together; it changes the speed and not the scores.
TOGETHER = 128


@dataclass(frozen=True, eq=False)
class Importance:
    """``heads`` [L, H] (each layer's scores have L2 norm 1) and ``ffns`` [L]; higher is more important."""

    heads: Tensor
    ffns: Tensor


def importance(model: Classifier, tokens: Tensor, labels: Tensor, parts: Parts) -> Importance:
    """Scores of all parts with ``parts`` switched on, over the given examples (tokens [N, context], labels [N]).

    The absolute value is taken for each example, as in the formula: masks have one row per example, so that one backward
    pass gives all the gradients.  The model is used in evaluation mode and keeps its own; nothing in it gets a gradient.
    """
    heads, ffns = torch.zeros(parts.heads.shape), torch.zeros(parts.ffns.shape)
    for some, their_labels in zip(tokens.split(TOGETHER), labels.split(TOGETHER)):
        of_heads, of_ffns = gradients(model, some, their_labels, parts, rows=len(some))
        heads += of_heads.abs().sum(1).cpu()
        ffns += of_ffns.abs().sum(1).cpu()
    return Importance(by_layer(heads / len(tokens)), ffns / len(tokens))


def released_importance(model: Classifier, tokens: Tensor, labels: Tensor, parts: Parts, batch_size: int = 64) -> Importance:
    """What the released code computes instead, for comparison.

    It takes the absolute value of a batch's gradient, in which examples cancel, and never clears the masks' gradient between
    batches, so that what it adds up are absolute values of running sums: early batches count in all later ones.
    """
    running_heads, running_ffns = torch.zeros(parts.heads.shape), torch.zeros(parts.ffns.shape)
    heads, ffns = torch.zeros(parts.heads.shape), torch.zeros(parts.ffns.shape)
    for some, their_labels in zip(tokens.split(batch_size), labels.split(batch_size)):
        of_heads, of_ffns = gradients(model, some, their_labels, parts, rows=1)
        running_heads += of_heads[:, 0].cpu() / len(some)
        running_ffns += of_ffns[:, 0].cpu() / len(some)
        heads += running_heads.abs()
        ffns += running_ffns.abs()
    return Importance(by_layer(heads), ffns)


def gradients(model: Classifier, tokens: Tensor, labels: Tensor, parts: Parts, rows: int) -> tuple[Tensor, Tensor]:
    """∂(sum of the losses)/∂mask of heads [L, rows, H] and FFNs [L, rows]; rows: 1 mask for all, or one for each."""
    require(len(tokens) == len(labels) > 0, f"{len(tokens)} examples and {len(labels)} labels: give as many, and at least one")
    mode = model.training
    model.eval()
    device = tokens.device
    heads = [mask.float().to(device).expand(rows, -1).clone().requires_grad_() for mask in parts.heads]
    ffns = [mask.float().to(device).expand(rows, 1).clone().requires_grad_() for mask in parts.ffns]
    try:
        with torch.enable_grad():
            logits = model(tokens, head_masks=heads, layer_masks=ffns).float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            found = torch.autograd.grad(loss, heads + ffns)
    finally:
        model.train(mode)
    return torch.stack(found[: len(heads)]), torch.stack(found[len(heads) :])[:, :, 0]


def by_layer(scores: Tensor) -> Tensor:
    """Each layer's scores [L, H] divided by their L2 norm.  A layer whose scores are all 0 keeps them."""
    return scores / scores.norm(dim=1, keepdim=True).clamp(min=1e-20)
