"""Numbers of any width, bit by bit, and Rice codes: what a small file is made of.

data = pack(numbers, width=5)
numbers = unpack(data, count, width=5)
data, unary_bytes = rice(gaps, parameter=3)
gaps = unrice(data, count, parameter=3)
"""

from __future__ import annotations

import numpy as np

from lib.system.checks import require

#: Numbers that are spread out as bits at a time; a multiple of 8, so that each part ends with a whole byte.
PART = 1 << 20


def packed_bytes(count: int, width: int) -> int:
    """Bytes of ``count`` numbers of ``width`` bits: the last byte is filled up with zeros."""
    return (count * width + 7) // 8


def pack(numbers: np.ndarray, width: int) -> bytes:
    """Whole numbers from 0, ``width`` bits each (0 to 32), highest bit first.

    Raises ValueError for a number that needs more bits.
    """
    require(0 <= width <= 32, f"width is {width}: it must be from 0 to 32 bits")
    numbers = np.asarray(numbers)
    require(
        not len(numbers) or (numbers.min() >= 0 and int(numbers.max()) < 1 << width),
        f"a number does not fit into {width} bits: they must be from 0 to {(1 << width) - 1}",
    )
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
    parts = (numbers[start : start + PART].astype(np.uint32)[:, None] >> shifts & 1 for start in range(0, len(numbers), PART))
    return b"".join(np.packbits(part.astype(np.uint8)).tobytes() for part in parts)


def unpack(data: bytes, count: int, width: int) -> np.ndarray:
    """int64 [count] of what :func:`pack` wrote.  Raises ValueError when ``data`` is too short."""
    require(len(data) >= packed_bytes(count, width), f"{count} numbers of {width} bits do not fit into {len(data)} bytes")
    numbers = np.zeros(count, dtype=np.int64)
    for start in range(0, count if width else 0, PART):
        some = min(PART, count - start)
        part = np.frombuffer(data, np.uint8, packed_bytes(some, width), start * width // 8)
        bits = np.unpackbits(part, count=some * width)
        numbers[start : start + some] = bits.reshape(some, width) @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64))
    return numbers


def rice_parameter(gaps: np.ndarray) -> int:
    """The parameter with which :func:`rice` needs the fewest bits."""
    gaps = np.asarray(gaps, dtype=np.int64)
    return min(range(32), key=lambda parameter: rice_bits(gaps, parameter))


def rice_bits(gaps: np.ndarray, parameter: int) -> int:
    """Bits of these numbers as Rice codes: one more than quotient and remainder together."""
    return int((np.asarray(gaps, dtype=np.int64) >> parameter).sum()) + len(gaps) * (1 + parameter)


def rice(gaps: np.ndarray, parameter: int) -> tuple[bytes, int]:
    """Rice codes (Rice 1979; Golomb's of 1966 with a power of two) of whole numbers from 0, and how many bytes are unary.

    A number n is its low ``parameter`` bits, and n >> parameter zeros and a one.  All remainders come first, then all zeros
    and ones: no bit more than if they alternated, and both are read without a loop.  For gaps between positions that are
    occupied independently with probability p, the lengths are within about 1 % of the entropy when p is small.
    """
    gaps = np.asarray(gaps, dtype=np.int64)
    ends = np.cumsum((gaps >> parameter) + 1)
    unary = np.zeros(int(ends[-1]) if len(gaps) else 0, dtype=np.uint8)
    unary[ends - 1] = 1
    unary = np.packbits(unary).tobytes()
    return pack(gaps & ((1 << parameter) - 1), parameter) + unary, len(unary)


def unrice(data: bytes, count: int, parameter: int) -> np.ndarray:
    """int64 [count] of what :func:`rice` wrote.  Raises ValueError when ``data`` holds fewer numbers."""
    remainders = unpack(data, count, parameter)
    ends = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8, offset=packed_bytes(count, parameter))))[:count]
    require(len(ends) == count, f"only {len(ends)} of {count} numbers are there: the data are cut short")
    return (np.diff(ends, prepend=-1) - 1 << parameter) + remainders
