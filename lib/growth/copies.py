"""Replacing units by copies of themselves: what is common to all ways of growing wider."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.growth.growth import Growth
from lib.growth.layout import Axis
from lib.growth.moments import Moments
from lib.growth.networks import Config, axes


@dataclass(frozen=True, eq=False)
class Copies:
    """Units that take the place of others.

    ``source`` int64 [new]  the unit that each new one is a copy of
    ``count``  int64 [new]  how many copies of that unit there are
    """

    source: Tensor
    count: Tensor


def copies_of(source: Tensor) -> Copies:
    """The :class:`Copies` that ``source`` [new] describes."""
    return Copies(source, source.bincount()[source])


def tiled(size: int, times: int) -> Copies:
    """All units, ``times`` times one after the other."""
    return copies_of(torch.arange(size).repeat(times))


def replicate(
    tensor: Tensor, layout: tuple[Axis, ...], copies: Callable[[str, int], Copies | None], divided: str, power: int = 1
) -> Tensor:
    """The tensor of the model whose units are copies.

    ``copies(kind, size)`` names those of an axis with ``size`` units, None for an axis that stays.  Entries are divided by
    count^power along the axes whose flow is ``divided``: "in" for values, "out" for gradients (squared ones: power 2).
    """
    for dim, axis in enumerate(layout):
        made = copies(axis.kind, tensor.shape[dim] // axis.parts)
        if made is None:
            continue
        tensor = tensor.unflatten(dim, (axis.parts, -1)).index_select(dim + 1, made.source.to(tensor.device))
        if axis.flow == divided:
            tensor = tensor / made.count.to(tensor).pow(power).view(-1, *[1] * (tensor.ndim - dim - 2))
        tensor = tensor.flatten(dim, dim + 1)
    return tensor


@dataclass(frozen=True)
class Copying(Growth):
    """A growth that only makes copies of units; a subclass says which."""

    @abstractmethod
    def copies(self, config: Config, name: str, seed: int) -> Callable[[str, int], Copies | None]:
        """What :func:`replicate` asks for the parameter ``name``."""

    def weights(self, config: Config, tensors: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Every tensor replicated, divided by the number of copies where it reads them."""
        return {name: replicate(tensor, axes(name, config), self.copies(config, name, seed), "in") for name, tensor in tensors.items()}

    def moments(self, config: Config, moments: Moments, seed: int) -> Moments:
        """Moments follow gradients: divided by the number of copies where the tensor makes them.

        The map is that of equal copies, in which training would have kept them equal.
        """

        def carried(tensors: dict[str, Tensor], power: int) -> dict[str, Tensor]:
            return {
                name: replicate(tensor, axes(name, config), self.copies(config, name, seed), "out", power)
                for name, tensor in tensors.items()
            }

        return Moments(carried(moments.first, 1), carried(moments.second, 2), dict(moments.step))
