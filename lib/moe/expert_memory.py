"""Keeping freed memory for the next step: without it, page faults are what 64 experts cost on a CPU.

With 64 experts of 320 x 1024 the two weight gradients of a step are 84 MB each.  glibc fetches each block
above 32 MB from the kernel and gives it back when it is freed, so every step begins with 40 000 page
faults, in which the kernel zeroes 168 MB that are then overwritten.
"""

from __future__ import annotations

import ctypes
import functools
import sys

#: Freed blocks up to this many bytes stay with the process anyway (glibc's DEFAULT_MMAP_THRESHOLD_MAX).
KEPT_ANYWAY = 32 * 2**20

# mallopt(3): its two parameters, and the largest value they can have.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory(block: int) -> bool:
    """Have ``malloc`` keep large freed blocks, if blocks of ``block`` bytes would otherwise not be kept.

    True if it was or had been arranged.  It is for the whole process and from now on: it may hold its
    peak memory until it ends.  Only Linux with glibc is asked.
    """
    return block > KEPT_ANYWAY and _raise_thresholds()


@functools.cache
def _raise_thresholds() -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(M_MMAP_THRESHOLD, LARGEST), libc.mallopt(M_TRIM_THRESHOLD, LARGEST)])
