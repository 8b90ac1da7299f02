"""Where a sparse tensor's weights are, in few bytes: Rice codes of the gaps, over groups as coarse as the mask allows.

data, how = write_positions(mask)          # mask: bool [O, I, h, w] or of fewer dimensions
mask = read_positions(data, how, shape)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lib.quantization import bits
from lib.system.checks import require

#: Which axes of [O, I, h, w] live or die together, the coarsest first.
GROUPS: dict[str, tuple[int, ...]] = {"all": (0, 1, 2, 3), "channel": (0, 2, 3), "filter": (1, 2, 3), "kernel": (2, 3), "element": ()}


@dataclass(frozen=True)
class Positions:
    """How positions were written.

    ``group``      one of :data:`GROUPS`
    ``rare``       what the gaps lead to: True for groups that are there, False for those that are not
    ``count``      of such groups
    ``parameter``  of the Rice code; 0 makes it a plain bitmap up to the last one
    ``unary``      bytes of its unary part
    """

    group: str
    rare: bool
    count: int
    parameter: int
    unary: int

    @property
    def bytes(self) -> int:
        return bits.packed_bytes(self.count, self.parameter) + self.unary


def write_positions(mask: np.ndarray) -> tuple[bytes, Positions]:
    """The smallest form of a bool array of one to four dimensions, and how to read it.

    Coarser groups are taken wherever all cells of each group are alike, so a network pruned by kernels or filters pays for
    kernels or filters, not for each weight.  The rarer kind is written, whichever it is.
    """
    require(mask.dtype == bool and 1 <= mask.ndim <= 4, f"a bool array of one to four dimensions is needed, not {mask.dtype} {mask.shape}")
    return min(written(mask), key=lambda found: (len(found[0]), tuple(GROUPS).index(found[1].group)))


def written(mask: np.ndarray) -> Iterator[tuple[bytes, Positions]]:
    for group in GROUPS:
        axes = alike(group, mask.ndim)
        if (group != "element" and not axes) or (group != "all" and len(axes) == mask.ndim):
            continue  # with so few dimensions it is the same as another
        some, every = mask.any(axes), mask.all(axes)
        if axes and not np.array_equal(some, every):
            continue
        flat = np.atleast_1d(some).ravel()
        rare = bool(2 * flat.sum() <= len(flat))
        gaps = np.diff(np.flatnonzero(flat == rare), prepend=-1) - 1
        parameter = bits.rice_parameter(gaps)
        data, unary = bits.rice(gaps, parameter)
        yield data, Positions(group, rare, len(gaps), parameter, unary)


def read_positions(data: bytes, how: Positions, shape: Sequence[int]) -> np.ndarray:
    """The bool array [shape].  Raises ValueError when ``data`` and ``shape`` do not fit ``how``."""
    axes = alike(how.group, len(shape))
    coarse = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    flat = np.full(int(np.prod(coarse)), not how.rare)
    gaps = bits.unrice(data[: how.bytes], how.count, how.parameter)
    require((gaps < len(flat)).all(), "a position lies outside the tensor")  # or their sum might overflow
    places = np.cumsum(gaps + 1) - 1
    require(not len(places) or places[-1] < len(flat), "a position lies outside the tensor")
    flat[places] = how.rare
    return np.broadcast_to(flat.reshape(coarse), tuple(shape)).copy()


def alike(group: str, dimensions: int) -> tuple[int, ...]:
    """Axes of a tensor with so many dimensions that a group spans."""
    return tuple(axis for axis in GROUPS[group] if axis < dimensions)
