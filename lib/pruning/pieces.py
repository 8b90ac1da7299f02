"""Pieces of a weight [O, I, kh, kw], and choosing the best of them: what every structure has in common.

The structures by name, and the finer ones, are in :mod:`lib.pruning.structure`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.system.checks import require

#: Groups along an axis of a :class:`Grid`: one for each index, or one for all.
EACH, ANY = 2**31 - 1, 1

Sizes = tuple[int, ...]


class Structure:
    """``groups`` are the pieces that are chosen or dropped as a whole; ``mask`` chooses."""

    def groups(self, score: Tensor) -> Tensor:
        """[G] mean score per weight of each piece, in the order of memory."""
        raise TypeError(f"{type(self).__name__} does not say what its pieces are")

    def sizes(self, shape: Sizes) -> Tensor:
        """int64 [G]: how many weights each piece keeps when it is chosen."""
        raise TypeError(f"{type(self).__name__} does not say how large its pieces are")

    def even(self, shape: Sizes) -> int | None:
        """The size of the pieces where all have the same, else None."""
        sizes = self.sizes(shape)
        return int(sizes[0]) if int(sizes.min()) == int(sizes.max()) else None

    def chosen(self, score: Tensor, choice: Tensor) -> Tensor:
        """The mask, in the shape of ``score``, that keeps the pieces where ``choice``, bool [G], is True."""
        raise TypeError(f"{type(self).__name__} does not say where its pieces are")

    def capacity(self, shape: Sizes) -> int:
        """The most weights that a mask of this structure can keep."""
        return int(self.sizes(shape).sum())

    def unit(self, shape: Sizes) -> int:
        """Weights of the largest piece: with fewer than these, a mask may keep nothing."""
        return int(self.sizes(shape).max())

    def mask(self, score: Tensor, keep: int | float | None = None) -> Tensor:
        """Bool, of the shape of ``score``.  keep: see above; None: as much as the structure allows.

        Raises ValueError for a score that is NaN, or for a ``keep`` that the structure does not allow.
        """
        keep = self.budget(score, keep)
        values, even = self.groups(score), self.even(score.shape)
        if even:
            choice = top(values, keep // even)
        else:  # the longest run of the best pieces that fits
            sizes = self.sizes(score.shape).to(score.device)
            order = values.argsort(descending=True, stable=True)
            choice = torch.zeros_like(values, dtype=torch.bool)
            choice[order[sizes[order].cumsum(0) <= keep]] = True
        return self.chosen(score, choice)

    def budget(self, score: Tensor, keep: int | float | None) -> int:
        require(score.ndim in (2, 4), f"a score has the shape {tuple(score.shape)}: it must be [O, I] or [O, I, kh, kw]")
        require(not bool(score.isnan().any()), "a score is NaN: the network, or its gradient, is not finite")
        capacity = self.capacity(score.shape)
        if keep is None:
            return capacity
        if isinstance(keep, float):
            require(0 <= keep <= 1, f"keep is {keep}: a share must be in [0, 1]")
            keep = round(keep * score.numel())
        require(0 <= keep <= capacity, f"keep is {keep} weights: this structure keeps 0 to {capacity} of {score.numel()}")
        return keep


class Tiled(Structure):
    """Pieces that are tiles of the weight, seen as an array of the shape ``view``, cut along each axis by ``cuts``."""

    def view(self, shape: Sizes) -> Sizes:
        raise TypeError(f"{type(self).__name__} does not say how it sees a weight")

    def cuts(self, shape: Sizes) -> list[Tensor]:
        """int64 per axis of the view: how many indices each of its groups has."""
        raise TypeError(f"{type(self).__name__} does not say how it cuts a weight")

    def groups(self, score: Tensor) -> Tensor:
        sums = score.reshape(self.view(score.shape))
        for axis, parts in enumerate(self.cuts(score.shape)):
            sums = summed(sums, axis, parts)
        return sums.flatten() / (self.even(score.shape) or self.sizes(score.shape).to(score))

    def sizes(self, shape: Sizes) -> Tensor:
        found = torch.ones((), dtype=torch.int64)
        for parts in self.cuts(shape):
            found = found[..., None] * parts
        return found.flatten()

    def even(self, shape: Sizes) -> int | None:
        cuts = self.cuts(shape)
        return math.prod(int(parts[0]) for parts in cuts) if all(int(p.min()) == int(p.max()) for p in cuts) else None

    def capacity(self, shape: Sizes) -> int:
        return math.prod(shape)

    def unit(self, shape: Sizes) -> int:
        return math.prod(int(parts.max()) for parts in self.cuts(shape))

    def chosen(self, score: Tensor, choice: Tensor) -> Tensor:
        return spread(choice, self.cuts(score.shape)).reshape(score.shape)


@dataclass(frozen=True)
class Grid(Tiled):
    """The number of groups along each axis: :data:`EACH`, :data:`ANY` or any number between.

    Where it does not divide the axis, groups differ by one index at most.
    """

    filter: int = EACH
    channel: int = EACH
    row: int = EACH
    column: int = EACH

    def view(self, shape: Sizes) -> Sizes:
        return four(shape)

    def cuts(self, shape: Sizes) -> list[Tensor]:
        wanted = (self.filter, self.channel, self.row, self.column)
        return [
            (torch.arange(n + 1) * dim // n).diff() if n < dim else torch.ones(dim, dtype=torch.int64)
            for dim, n in zip(four(shape), wanted)
        ]


@dataclass(frozen=True)
class Block(Tiled):
    """Tiles of ``rows`` × ``columns`` of the matrix [O, I · kh · kw]; those at its edges may be smaller."""

    rows: int = 16
    columns: int = 16

    def view(self, shape: Sizes) -> Sizes:
        return shape[0], math.prod(shape[1:])

    def cuts(self, shape: Sizes) -> list[Tensor]:
        return [tiles(dim, size) for dim, size in zip(self.view(shape), (self.rows, self.columns))]


def top(values: Tensor, keep: int) -> Tensor:
    """Bool [G]: the ``keep`` highest values, of equal ones the first."""
    if keep in (0, len(values)):
        return torch.full(values.shape, keep > 0, device=values.device)
    threshold = values.kthvalue(len(values) - keep + 1).values
    chosen = values > threshold
    chosen[(values == threshold).nonzero()[: keep - int(chosen.sum()), 0]] = True
    return chosen


def four(shape: Sizes) -> Sizes:
    return tuple(shape) + (1,) * (4 - len(shape))


def tiles(dim: int, size: int) -> Tensor:
    """Sizes of the tiles that an axis is cut into: all ``size``, the last one what is left."""
    whole, rest = divmod(dim, size)
    return torch.tensor([size] * whole + [rest] * (rest > 0))


def summed(values: Tensor, axis: int, parts: Tensor) -> Tensor:
    """Sums over neighbouring indices of an axis.  Without atomics, so that a GPU gives the same twice."""
    if len(parts) == values.shape[axis]:
        return values
    if int(parts.min()) == int(parts.max()):
        return values.unflatten(axis, (len(parts), -1)).sum(axis + 1)
    return torch.stack([part.sum(axis) for part in values.split(parts.tolist(), axis)], axis)


def spread(values: Tensor, cuts: list[Tensor]) -> Tensor:
    """Values of groups [G] for each of their indices."""
    found = values.view([len(parts) for parts in cuts])
    for axis, parts in enumerate(cuts):
        if int(parts.max()) > 1:
            found = found.repeat_interleave(parts.to(values.device), axis)
    return found


def labels(grid: Grid, shape: Sizes) -> Tensor:
    """The number of each weight's tile, int64 in the shape of the weight."""
    cuts = grid.cuts(shape)
    return spread(torch.arange(math.prod(map(len, cuts))), cuts).reshape(shape)
