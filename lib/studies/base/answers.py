"""Which test images a network answers rightly, one bit each, as a text that a result file can hold."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def written(right: Tensor) -> str:
    """A bool tensor [N] as hexadecimal digits, four images each, with its length in front: ``"360:ff3…"``."""
    return f"{len(right)}:{np.packbits(right.numpy()).tobytes().hex()}"


def correct_of(text: str) -> np.ndarray:
    """What :func:`written` wrote, bool [N].  Raises ValueError for anything else."""
    count, _, digits = text.partition(":")
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8))
    if not 0 <= int(count) <= len(bits):
        raise ValueError(f"{count} answers are said to be in {len(bits)} bits: the result is damaged, run it again")
    return bits[: int(count)].astype(bool)
