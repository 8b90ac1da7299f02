"""What a sparse tensor's values are, in few bytes and to the last bit: codes into small codebooks, 16 or 32 bits each.

    data, how = write_values(values, sections)     # float32 [n], and of each value the section it lies in
    values = read_values(data, how, sections)

Nobody says how a network was quantized: a form is taken when it gives back the very same bits, and the smallest wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.quantization import bits
from lib.system.checks import require

#: Codes may have at most this many bits.
WIDEST = 8

#: Forms of values, and the bits that each of them may take.
FORMS = {"fp32": (32,), "fp16": (16,), "codes": tuple(range(WIDEST + 1))}


@dataclass(frozen=True)
class Values:
    """How values were written.

    ``form``      "fp32", "fp16" or "codes"
    ``grid``      sections of rows and columns, each with its own codebook; (1, 1) is one for the whole tensor
    ``bits``      of a code
    ``entries``   in all codebooks together
    ``sections``  that have a value
    ``counter``   bits by which each section's number of entries is told
    ``half``      whether codebooks hold 16-bit numbers
    """

    form: str
    grid: tuple[int, int] = (1, 1)
    bits: int = 32
    entries: int = 0
    sections: int = 0
    counter: int = 0
    half: bool = False

    @property
    def codebook_bytes(self) -> int:
        return bits.packed_bytes(self.sections, self.counter) + self.entries * (2 if self.half else 4)


def section_of(shape: tuple[int, ...], grid: tuple[int, int]) -> np.ndarray:
    """int64 [shape]: the section of each weight, when rows (outputs) and columns (inputs) are cut into ``grid`` equal parts.

    A row r of O lies in part r · n // O, n being the grid's or O if that is fewer; so parts differ by at most one row.  A
    tensor of one dimension has rows only.
    """
    cuts = [np.arange(size) * min(parts, size) // size for size, parts in zip(shape, grid)]
    rows = cuts[0].reshape(-1, *[1] * (len(shape) - 1))
    if len(shape) == 1:
        return np.broadcast_to(rows, shape)
    return np.broadcast_to(rows * min(grid[1], shape[1]) + cuts[1].reshape(1, -1, *[1] * (len(shape) - 2)), shape)


def write_values(values: np.ndarray, sections: dict[tuple[int, int], np.ndarray]) -> tuple[bytes, Values]:
    """The smallest form of float32 values [n].  sections: for each grid that may be tried, the section [n] of each value.

    Raises ValueError for values that are not numbers, or zero: zeros have no position.
    """
    require(
        values.dtype == np.float32 and np.isfinite(values).all() and (values != 0).all(),
        "values must be float32, finite and not zero: was the network trained well, and are its zeros masked?",
    )
    found = [(values.tobytes(), Values("fp32"))]
    if in_half(values):
        found.append((values.astype(np.float16).tobytes(), Values("fp16", bits=16)))
    found += [coded for grid, own in sections.items() if (coded := in_codes(values, own, grid))]
    return min(found, key=lambda one: len(one[0]))


def in_half(values: np.ndarray) -> bool:
    """Whether 16-bit floating-point numbers hold the same values."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def in_codes(values: np.ndarray, section: np.ndarray, grid: tuple[int, int]) -> tuple[bytes, Values] | None:
    """Codebooks section by section, then one code per value; None where a section has more than 256 different values."""
    if not len(values):
        return None
    keys, codes = np.unique(section.astype(np.uint64) << np.uint64(32) | values.view(np.uint32), return_inverse=True)
    _, starts, counts = np.unique(keys >> np.uint64(32), return_index=True, return_counts=True)
    if counts.max() > 1 << WIDEST:
        return None
    width, counter = int(counts.max() - 1).bit_length(), int(counts.max() - 1).bit_length()
    entries = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    codes = codes - np.repeat(starts, counts)[codes]
    half = in_half(entries)
    book = entries.astype(np.float16 if half else np.float32).tobytes()
    data = bits.pack(counts - 1, counter) + book + bits.pack(codes, width)
    return data, Values("codes", grid, width, len(entries), len(counts), counter, half)


def read_values(data: bytes, how: Values, section: np.ndarray) -> np.ndarray:
    """float32 [n].  section: of each value, by ``how.grid``."""
    count = len(section)
    if how.form != "codes":
        kind = np.dtype(np.float16 if how.form == "fp16" else np.float32)
        return np.frombuffer(data, kind, count).astype(np.float32)
    counts = bits.unpack(data, how.sections, how.counter) + 1
    kind = np.dtype(np.float16 if how.half else np.float32)
    entries = np.frombuffer(data, kind, how.entries, bits.packed_bytes(how.sections, how.counter)).astype(np.float32)
    codes = bits.unpack(data[how.codebook_bytes :], count, how.bits)
    occupied, place = np.unique(section, return_inverse=True)
    require(len(occupied) == how.sections and counts.sum() == how.entries, "the codebooks do not belong to these positions")
    return entries[(np.cumsum(counts) - counts)[place] + codes]


def value_bytes(how: Values, count: int) -> int:
    """Bytes that :func:`write_values` wrote of ``count`` values."""
    return how.codebook_bytes + bits.packed_bytes(count, how.bits) if how.form == "codes" else count * how.bits // 8
