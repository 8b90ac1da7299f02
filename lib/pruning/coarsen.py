"""Coarsening the granularity: from scattered weights to whole channels and dense groups (Chen et al., arXiv 2202.04736).

Tickets found by unstructured pruning run no faster.  After each round, these rules put as many weights as survived, or about
as many, where hardware likes them: in whole channels (refilling) or in blocks of similar rows (regrouping).

    kept = coarsened("refill", survivors, weights)     # masks and trained weights by layer
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.pruning.collapse import purge
from lib.pruning.mask import Masks
from lib.pruning.pieces import top
from lib.system.checks import one_of, require

#: See :func:`refill`, :func:`refill_plus` and :func:`regroup`.
FORMS = ("refill", "refill_plus", "regroup")

#: Share of the channels that refilling would drop that refill+ keeps.
MORE = 0.1

#: Rows of a group, on average.
ROWS = 16


def coarsened(form: str, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Masks:
    """Each layer's mask in a coarser form.  The first and the last layer stay as they are, as in the paper.

    masks: of what survived, in the order of the layers.  weights: trained ones, by which channels are compared.
    Raises ValueError for an unknown form.
    """
    one_of("form", form, FORMS)
    first, *middle, last = masks
    rule = {"refill": refill, "refill_plus": refill_plus, "regroup": regroup}[form]
    return {name: rule(mask, weights[name].detach().abs()) if name in middle else mask.clone() for name, mask in masks.items()}


def refill(mask: Tensor, score: Tensor, more: float = 0.0) -> Tensor:
    """The best output channels, whole: as many as the survivors would fill, one at least.

    n = ⌊survivors / size of a channel⌋, of O channels that have survivors n + ⌊(O - n) · more⌋ are kept.  Channels are
    compared by the sum of the surviving ``score`` [O, I, ...], which for |w| is the L1 norm.  A channel reads the inputs of
    which anything has survived: with input channels that are gone already, it is smaller, and is counted as that.
    """
    require(mask.shape == score.shape, f"mask {tuple(mask.shape)} and score {tuple(score.shape)} must have the same shape")
    require(0 <= more <= 1, f"more is {more}: it must be a share of the channels, in [0, 1]")
    inputs = mask.transpose(0, 1).flatten(1).any(1)
    size = int(inputs.sum()) * mask[0, 0].numel()
    strength = (score * mask).flatten(1).sum(1)
    alive = int(mask.flatten(1).any(1).sum())
    if not alive:
        return mask.clone()
    whole = max(1, int(mask.sum()) // size)
    kept = top(strength, whole + int((alive - whole) * more))
    reads = inputs.view(1, -1, *[1] * (mask.ndim - 2))
    return (kept.view(-1, *[1] * (mask.ndim - 1)) & reads).expand_as(mask).clone()


def fewer_channels(mask: Tensor, score: Tensor, amount: float) -> Tensor:
    """What refilling is compared with: of the output channels left, the share ``amount`` of least ``score`` goes."""
    strength = (score * mask).flatten(1).sum(1)
    kept = top(strength, max(1, round((1 - amount) * int(mask.flatten(1).any(1).sum()))))
    return mask & kept.view(-1, *[1] * (mask.ndim - 1))


def closed(model: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...]) -> Masks:
    """The masks without kernels that lie on no path from an input of this shape to an output; the others stay whole.

    So an emptied channel takes with it what reads it, and :func:`lib.pruning.physical.remove` can take it out.
    """
    live = purge(model, masks, shape)
    return {name: mask & live[name].flatten(2).any(2)[..., None, None] if mask.ndim == 4 else live[name] for name, mask in masks.items()}


def refill_plus(mask: Tensor, score: Tensor) -> Tensor:
    """Refilling that keeps a tenth of the channels that would go."""
    return refill(mask, score, MORE)


def regroup(mask: Tensor, score: Tensor, rows: int = ROWS) -> Tensor:
    """Dense blocks: rows with similar survivors form a group, which keeps whole columns; as many weights as survived.

    The matrix is [O, I · kh · kw].  Within the budget, those columns of those groups stay that are fullest; of equally full
    ones, those with the higher ``score``.  Deviation: groups come from spectral clustering of the rows by their Jaccard
    similarity (scikit-learn), where the authors partition a hypergraph with hMETIS, a closed program that balances the
    groups; and a budget decides on the columns, where they set thresholds.
    """
    require(mask.shape == score.shape, f"mask {tuple(mask.shape)} and score {tuple(score.shape)} must have the same shape")
    matrix, value = mask.flatten(1), (score * mask).flatten(1)
    groups = clusters(matrix, rows).to(mask.device)
    members = torch.nn.functional.one_hot(groups, int(groups.max()) + 1).T.to(value.dtype)  # [G, O]
    size = members.sum(1, keepdim=True)
    fullness, strength = members @ matrix.to(value.dtype) / size, members @ value / size
    # Fullness decides.  Strengths are below 1 after the division, and one row more or less is at least 1 / O.
    merit = (fullness + strength / (strength.max().clamp(min=1e-12) * 2 * len(matrix))).flatten()
    order = merit.argsort(descending=True, stable=True)
    sizes = size.expand_as(fullness).flatten()[order].to(torch.int64)
    chosen = torch.zeros(fullness.numel(), dtype=torch.bool, device=mask.device)
    chosen[order[sizes.cumsum(0) <= int(mask.sum())]] = True
    return (chosen.view_as(fullness) & (fullness > 0))[groups].view_as(mask)


def clusters(matrix: Tensor, rows: int = ROWS) -> Tensor:
    """Group of each row of a bool matrix [O, K], int64 [O]; similar rows together, about ``rows`` in each."""
    from sklearn.cluster import SpectralClustering  # slow to import, and only needed here

    require(rows >= 1, f"rows is {rows}: a group needs at least one")
    number = max(1, round(len(matrix) / rows))
    if number == 1:
        return torch.zeros(len(matrix), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        found = SpectralClustering(number, affinity="precomputed", assign_labels="cluster_qr", random_state=0).fit_predict(
            jaccard(matrix).cpu().double().numpy()
        )
    return torch.as_tensor(found).long().unique(return_inverse=True)[1]  # numbers without gaps


def jaccard(matrix: Tensor) -> Tensor:
    """Similarity of each two rows of a bool matrix, [O, O]: columns that both have over those that any has; 0 if empty."""
    values = matrix.double()
    both = values @ values.T
    counts = values.sum(1)
    return both / (counts[:, None] + counts - both).clamp(min=1)
