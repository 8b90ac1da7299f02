"""How few bytes the positions of weights can take, and what "compressed 1000 times" means.

Ratios that are told of pruned networks mostly count weights: all of them divided by those that are not zero, times 32 over
the bits of one.  A file must also say where they are, which values their codes stand for, and what batch norm does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from lib.system.checks import require


def entropy(probability: float) -> float:
    """Bits of one yes or no, yes with this probability."""
    require(0 <= probability <= 1, f"probability is {probability}: it must be from 0 to 1")
    return -sum(p * math.log2(p) for p in (probability, 1 - probability) if p > 0)


def position_bits(count: int, total: int) -> float:
    """Bits for the places of ``count`` weights among ``total``, by the entropy: total · H(count / total).

    No code does better on average where all arrangements are alike, but for a few bits in all; a code that knows of each
    layer's own density can, where densities differ.
    """
    require(0 <= count <= total, f"{count} of {total} places cannot be taken")
    return total * entropy(count / total) if total else 0.0


def layered_position_bits(counts: Iterable[tuple[int, int]]) -> float:
    """:func:`position_bits` layer by layer, of pairs (count, total): what a parameter per layer can reach."""
    return sum(position_bits(count, total) for count, total in counts)


def csr_bits(counts: Iterable[tuple[int, int]], width: int = 16) -> int:
    """Bits of the places in compressed sparse rows, of pairs (count, rows): ``width`` a weight for its column, and a row."""
    return sum(width * (count + rows + 1) for count, rows in counts)


def claimed_ratio(total: int, count: int, bits: int = 32) -> float:
    """The ratio that papers tell: weights / surviving weights · 32 / bits, without positions, codebooks and batch norm."""
    require(0 < count <= total and 0 < bits <= 32, f"{count} of {total} weights of {bits} bits: there must be some, of 1 to 32 bits")
    return total / count * 32 / bits


def weights_ratio(total: int, count: int, bits: int, entries: int = 0, width: int = 32, positions: float | None = None) -> float:
    """32-bit weights over what they come to with positions and codebooks: 32 W / (n b + positions + entries · width).

    positions: their bits; None: the entropy of n among W.  Batch norm, biases and the file's header are not counted.
    """
    found = count * bits + (position_bits(count, total) if positions is None else positions) + entries * width
    require(found > 0, "nothing is kept: there is no ratio")
    return 32 * total / found
