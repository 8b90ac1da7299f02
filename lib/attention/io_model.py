"""What attention must compute and move: operations, and reads and writes of slow memory, for one head of N queries and keys.

Two levels of memory: a slow one that holds everything, and a fast one for M numbers, where all computing is done.  On
a GPU these are its main memory (HBM) and the SRAM of one multiprocessor, on a CPU the memory and a core's cache.  An
access is one number read or written.  Products count 2 operations per multiply-add; exponentials and sums are left out.

Causal order, which spares half of it, and padding are left out.  So is the memory's own cleverness: caches that keep
a tile by chance, and multiprocessors that share one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib.system.checks import require


@dataclass(frozen=True)
class Traffic:
    """Operations and accesses of one pass or of several."""

    flops: int
    accesses: int

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.flops + other.flops, self.accesses + other.accesses)

    def times(self, heads: int) -> Traffic:
        return Traffic(heads * self.flops, heads * self.accesses)

    def bytes(self, itemsize: int) -> int:
        return itemsize * self.accesses

    def seconds(self, flops_per_second: float, bytes_per_second: float, itemsize: int) -> float:
        """The roofline: no machine with these two speeds can be faster."""
        return max(self.flops / flops_per_second, self.bytes(itemsize) / bytes_per_second)


def standard_forward(N: int, d: int) -> Traffic:
    """Algorithm 0: read Q, K, write S; read S, write P; read P, V, write O."""
    return Traffic(4 * N * N * d, 4 * N * N + 4 * N * d)


def standard_backward(N: int, d: int) -> Traffic:
    """Algorithm 3: dV from P, dO; dP from dO, V; dS from P, dP; dQ from dS, K; dK from dS, Q."""
    return Traffic(8 * N * N * d, 7 * N * N + 8 * N * d)


def block_sizes(d: int, M: int) -> tuple[int, int]:
    """B_r and B_c, the rows and columns of a tile that fit fast memory: Algorithm 1, line 1.

    Raises ValueError outside d ≤ M, where the theorem says nothing.
    """
    require(M >= d, f"fast memory for {M} numbers does not hold a row of {d}: theorem 2 is about M of at least d")
    columns = math.ceil(M / (4 * d))
    return min(columns, d), columns


def flash_forward(N: int, d: int, M: int, share: float = 1.0) -> Traffic:
    """Algorithm 1: K and V once, and for each of N / B_c blocks of them Q and O read, O written, m and l read and written.

    ``share`` of the blocks is computed, for the block-sparse form (Algorithm 5): with every block, Θ(N² d² / M) as of
    theorem 2, otherwise Θ(N d + N² d² s / M) as of proposition 4: however few the blocks, the output is written.
    """
    passes = share * math.ceil(N / block_sizes(d, M)[1])
    return Traffic(round(4 * N * N * d * share), round(2 * N * d + max(N * d, passes * (3 * N * d + 4 * N))))


def flash_backward(N: int, d: int, M: int, share: float = 1.0) -> Traffic:
    """Algorithm 4: K, V read and dK, dV written once; for each block of them Q, O, dO, dQ, m, l read, dQ written.

    Five products where the standard has four: S is computed again.
    """
    passes = share * math.ceil(N / block_sizes(d, M)[1])
    return Traffic(round(10 * N * N * d * share), round(4 * N * d + max(N * d, passes * (5 * N * d + 2 * N))))


def linformer_forward(N: int, d: int, rank: int) -> Traffic:
    """E K and F V (each operand read, results written), then Algorithm 0 with ``rank`` keys."""
    return Traffic(4 * N * rank * d + 4 * N * rank * d, 2 * N * rank + 2 * N * d + 2 * rank * d + 4 * N * rank + 2 * N * d + 2 * rank * d)


def performer_forward(N: int, d: int, count: int) -> Traffic:
    """Features of Q and K (read, product written, read, exponential written), then φ(K)ᵀ V, φ(Q) times it, and the normaliser."""
    return Traffic(
        4 * N * count * d + 4 * N * count * d + 2 * N * count,
        2 * N * d + 6 * N * count + (N * count + N * d + count * d) + (2 * N * count + count * d + N * d),
    )


def standard_memory(N: int, d: int) -> int:
    """Numbers kept for the backward pass: Q, K, V and the matrix P."""
    return N * N + 3 * N * d


def flash_memory(N: int, d: int) -> int:
    """Numbers kept for the backward pass: Q, K, V, O and one statistic a row (the paper's m and l would be two)."""
    return 4 * N * d + N


def crossing(x: Sequence[float], first: Sequence[float], second: Sequence[float]) -> float | None:
    """The largest ``x`` up to which ``first`` is below ``second``, interpolated between points, all on logarithmic scales.

    None where ``first`` is above from the beginning; infinity where it is below to the end.
    """
    gaps = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    if gaps[0] >= 0:
        return None
    for (x0, g0), (x1, g1) in zip(zip(x, gaps), zip(x[1:], gaps[1:])):
        if g1 >= 0:
            return math.exp(math.log(x0) + (math.log(x1) - math.log(x0)) * g0 / (g0 - g1))
    return math.inf
