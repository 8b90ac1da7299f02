"""Codebooks: each weight of a section is one of 2^b trained values (Han et al. 2016, "Deep Compression", arXiv 1510.00149).

    attach(model, masks)                   # where weights are, if not everywhere; see lib.pruning.mask
    quantize(model, bits=4)                # weight = codebook[code]; zero is the mask, and no entry
    ... train, calling reassign(model) from time to time ...

The values start as those of k-means from evenly spread centres (their "linear" initialisation) and are trained: the gradient
of an entry is the sum over its weights.  Codes are not fixed as there: beside the entries a latent weight is trained,
straight through the codebook, and takes the nearest entry's code whenever :func:`reassign` is called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.pruning.mask import layers
from lib.system.checks import require

#: Steps of k-means, at most.
STEPS = 40

Grid = tuple[int, int]


class Codebook(nn.Module):
    """The parametrization w ↦ entries[section, code] where w is not zero, else 0.

    weight: what it is set up for, [O, I] or [O, I, kh, kw], zero where there is no weight.  bits: of a code, 1 to 8.
    grid: rows and columns of sections, each of which has entries of its own; fewer where the weight has fewer.
    Backward, the entry gets the sum of the gradients of its weights, and w gets its own gradient unchanged.
    """

    def __init__(self, weight: Tensor, bits: int, grid: Grid = (1, 1)):
        super().__init__()
        require(1 <= bits <= 8, f"bits is {bits}: a code must have 1 to 8")
        require(min(grid) >= 1, f"grid is {grid}: it must be two numbers from 1")
        rows, columns = (torch.arange(size, device=weight.device) * min(parts, size) // size for size, parts in zip(weight.shape, grid))
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.shape = (int(rows[-1]) + 1, int(columns[-1]) + 1, 2**bits)
        # One dimension, so that optimisers do not let entries decay.
        self.entries = nn.Parameter(torch.zeros(self.shape, device=weight.device).flatten())
        self.register_buffer("code", torch.zeros(weight.shape, dtype=torch.uint8, device=weight.device))
        self.fit(weight)

    def forward(self, weight: Tensor) -> Tensor:
        return FromCodebook.apply(weight, self.entries, self)

    def section(self, dimensions: int) -> Tensor:
        """int64 [O, I, 1, …]: which section a weight lies in."""
        found = self.rows[:, None] * self.shape[1] + self.columns
        return found.reshape(found.shape + (1,) * (dimensions - 2))

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Set the entries by k-means of the weights that are not zero, section by section, and the codes by them."""
        there = weight != 0
        section = self.section(weight.ndim).expand(weight.shape)[there]
        entries = centres(weight[there], section, self.shape[0] * self.shape[1], self.shape[2])
        self.entries.copy_(entries.flatten())
        self.assign(weight)

    @torch.no_grad()
    def assign(self, weight: Tensor) -> Tensor:
        """Give each weight that is there the code of its section's nearest entry; returns how many codes changed."""
        there, code = weight != 0, torch.zeros_like(self.code)
        section = self.section(weight.ndim).expand(weight.shape)[there]
        code[there] = nearest(weight[there], section, self.entries.view(-1, self.shape[2])).to(code.dtype)
        changed = (code.ne(self.code) & there).sum()
        self.code.copy_(code)
        return changed


class FromCodebook(torch.autograd.Function):
    """Entries looked up by code; sums of gradients to the entries, straight through to the weight."""

    @staticmethod
    def forward(ctx, weight: Tensor, entries: Tensor, book: Codebook) -> Tensor:
        ctx.book = book
        # The code is what it is now: reassign() may change it before the next pass.
        ctx.save_for_backward(weight, book.code)
        found = entries[book.section(weight.ndim) * book.shape[2] + book.code.long()]
        return torch.where(weight != 0, found, 0.0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, code = ctx.saved_tensors
        rows, columns, entries = ctx.book.shape
        kept = torch.where(weight != 0, gradient, 0.0)
        # Summed by matrix products instead of scattering: the same every time, and no crowding on a few entries.
        by_row = torch.nn.functional.one_hot(ctx.book.rows, rows).to(kept.dtype)
        by_column = torch.nn.functional.one_hot(ctx.book.columns, columns).to(kept.dtype)
        sums = [
            by_row.T @ torch.where(code == number, kept, 0.0).flatten(2).sum(2) @ by_column
            if kept.ndim > 2
            else by_row.T @ torch.where(code == number, kept, 0.0) @ by_column
            for number in range(entries)
        ]
        return gradient, torch.stack(sums, -1).flatten(), None


def centres(values: Tensor, section: Tensor, sections: int, count: int) -> Tensor:
    """``count`` centres per section, float64 [sections, count], by k-means from evenly spread ones between its extremes.

    values, section: [n], each value and the number of its section.  Lloyd's steps for all sections at once, which
    scikit-learn cannot do; until nothing moves, at most :data:`STEPS`.  As there, a centre without values goes to the value
    that is worst off, one per section and step.  A section without values gets zeros; one with few different values gets
    these and idle ones.
    """
    values = values.double()
    none = values.new_zeros(sections)
    low, high = (none.scatter_reduce(0, section, values, kind, include_self=False) for kind in ("amin", "amax"))
    entries = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, count, dtype=values.dtype, device=values.device)
    for _ in range(STEPS):
        code = nearest(values, section, entries)
        place = section * count + code
        members = torch.bincount(place, minlength=entries.numel()).view_as(entries)
        sums = none.new_zeros(entries.numel()).index_add(0, place, values).view_as(entries)
        moved = torch.where(members > 0, sums / members.clamp(min=1), entries)
        error = (values - entries[section, code]).abs()
        worst = none.scatter_reduce(0, section, error, "amax")
        target, far = none.clone(), error == worst[section]
        target[section[far]] = values[far]
        idle = (members == 0) & (worst > 0)[:, None]
        moved = torch.where(idle & (idle.cumsum(1) == 1), target[:, None], moved)
        if torch.equal(moved, entries):
            break
        entries = moved
    return entries


def nearest(values: Tensor, section: Tensor, entries: Tensor) -> Tensor:
    """Place [n] of the entry next to each value [n] among those [count] of its section; entries: [sections, count]."""
    values, (ordered, order) = values.double(), entries.double().sort(1)
    if not len(values):
        return section
    # Every section on a stretch of the line of its own, so that one search serves all.
    stretch = 2 * torch.maximum(values.abs().max(), ordered.abs().max()) + 1
    starts = stretch * torch.arange(len(entries), device=values.device)
    bounds = (ordered[:, 1:] + ordered[:, :-1]) / 2 + starts[:, None]
    place = torch.searchsorted(bounds.flatten(), values + starts[section]) - section * bounds.shape[1]
    return order[section, place.clamp(0, bounds.shape[1])]  # values that are not finite would lie outside


@torch.no_grad()
def share_norms(model: nn.Module, bits: int) -> nn.Module:
    """A copy of a folded network in which each vector (scales, shifts, biases) has at most 2^bits values, by k-means.

    Zeros stay zeros.  At ratios of 1,000 these vectors are half of a file.  Raises ValueError for bits out of 1 to 8.
    """
    require(1 <= bits <= 8, f"bits is {bits}: a code must have 1 to 8")
    model = copy.deepcopy(model)
    for vector in model.parameters():
        if vector.ndim == 1 and vector.any():
            values = vector[vector != 0]
            section = torch.zeros(len(values), dtype=torch.int64)
            entries = centres(values, section, 1, 2**bits)
            vector[vector != 0] = entries[0, nearest(values, section, entries)].to(vector.dtype)
    return model


def quantize(model: nn.Module, bits: int, grid: Grid = (1, 1), ignored: Iterable[str] = ()) -> nn.Module:
    """Give each linear and convolutional layer codebooks for its weight, in place, after its mask.  Returns ``model``.

    Raises ValueError where a layer has codebooks already.
    """
    for name, layer in layers(model, ignored).items():
        require(not book_of(layer), f"{name} has codebooks already: reassign() or refit() them")
        with torch.no_grad():
            book = Codebook(layer.weight, bits, grid)
        parametrize.register_parametrization(layer, "weight", book)
    return model


def books(model: nn.Module) -> dict[str, Codebook]:
    """The codebooks by layer."""
    return {name: book for name, layer in layers(model).items() if (book := book_of(layer))}


def book_of(layer: nn.Module) -> Codebook | None:
    chain = layer.parametrizations.weight if parametrize.is_parametrized(layer, "weight") else ()
    return next((part for part in chain if isinstance(part, Codebook)), None)


@torch.no_grad()
def shadows(model: nn.Module) -> dict[str, Tensor]:
    """The weights before their codebooks: trained straight through, zero where they are masked."""
    found = {}
    for name in books(model):
        chain = model.get_submodule(name).parametrizations.weight
        weight = chain.original
        for part in chain:
            if isinstance(part, Codebook):
                break
            weight = part(weight)
        found[name] = weight
    return found


def reassign(model: nn.Module) -> int:
    """Each weight takes the code of the entry that is nearest now; returns how many changed."""
    weights = shadows(model)
    return int(sum(book.assign(weights[name]) for name, book in books(model).items()))


def refit(model: nn.Module) -> None:
    """Entries and codes anew by k-means, as when pruning has taken weights away."""
    weights = shadows(model)
    for name, book in books(model).items():
        book.fit(weights[name])
