"""What one MoE layer must compute and move, forward and backward: FLOPs and bytes of each backend.

The bytes are a lower bound: each operand of each operation is read once and each result written once,
and nothing stays in a cache in between.  Router, sorting, biases and the padding of odd widths are left
out, being small.  FLOPs are those of the matrix products; a multiply-add counts 2.

T tokens, K assignments each, N = T·K; E experts of D → H → D; R rows that the experts compute:

    dense             R = T, E = 1
    loop, grouped     R = N
    bmm               R = E · C, with C the largest load
    einsum            R = T · E
"""

from __future__ import annotations

from lib.measure.roofline import Cost


def dense_cost(tokens: int, d_model: int, hidden: int, itemsize: int = 4) -> Cost:
    """A dense FFN: ``products + activation + casts`` of :func:`expert_cost` with R = T and E = 1."""
    T, D, H, s = tokens, d_model, hidden, itemsize
    return Cost(12 * T * D * H, s * (products(T, T, 1, D, H) + 5 * T * H) + casts(1, D, H, s))


def expert_cost(
    backend: str, experts: int, tokens: int, d_model: int, hidden: int, k: int = 1, itemsize: int = 4, largest_load: int | None = None
) -> Cost:
    """Experts with dispatch and combine, run by ``backend``.

    FLOPs = 12·R·D·H: two products forward, four backward, each 2·R·D·H; for einsum also 6·R·D for the
    weighted sum over all experts.

    Bytes, in elements of ``itemsize`` s bytes, but for the casts:

    - products: 6·R·(D + H) + 6·E·D·H.  Each of the six reads or writes all rows on both sides and all
      weights of one layer, or their gradient.  For einsum the D side of the first layer is the T tokens.
    - activation: 5·R·H: read and write forward; backward read two, write one.
    - moves: 4·(R + N)·D: tokens to rows and rows to assignments, forward and backward, read and write.
    - weighting: 2·(N + T)·D: forward read N and write T rows; the same rows again for the gates' gradient.
    - for einsum instead of moves and weighting: 3·(R + T)·D.
    - casts, for s < 4: 4·E·D·H·(4 + s): fp32 weights to the smaller type, their gradients back.

    ``largest_load`` matters to bmm; by default loads are equal.  Raises ValueError for an unknown backend.
    """
    E, T, D, H, s = experts, tokens, d_model, hidden, itemsize
    N = T * k
    rows = {"loop": N, "grouped": N, "bmm": E * (largest_load or -(-N // E)), "einsum": T * E}
    if backend not in rows:
        raise ValueError(f"unknown backend {backend!r}: use one of {', '.join(rows)}")
    R = rows[backend]
    if backend == "einsum":
        elements = products(R, T, E, D, H) + 3 * (R + T) * D
    else:
        elements = products(R, R, E, D, H) + 4 * (R + N) * D + 2 * (N + T) * D
    return Cost(12 * R * D * H + (6 * R * D if backend == "einsum" else 0), s * (elements + 5 * R * H) + casts(E, D, H, s))


def products(R: int, inputs: int, E: int, D: int, H: int) -> int:
    """Elements that the six products move: three at the first layer, with ``inputs`` rows in, three at the second."""
    return 3 * (inputs * D + R * H + E * D * H) + 3 * (R * H + R * D + E * D * H)


def casts(E: int, D: int, H: int, itemsize: int) -> int:
    """Bytes of casting fp32 weights down and their gradients up."""
    return 4 * E * D * H * (4 + itemsize) if itemsize < 4 else 0
