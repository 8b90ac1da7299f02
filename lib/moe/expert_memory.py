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

#: Blocks above this go back to the kernel, as ever: one activation of all experts on all tokens can be larger.
LARGEST_KEPT = 512 * 2**20

# mallopt(3): numbers of its parameters, and the largest value that it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1


def keep_freed_memory(block: int) -> bool:
    """Have ``malloc`` keep freed blocks of up to 512 MB, if blocks of ``block`` bytes would not be kept anyway.

    True if that is arranged.  It is for the whole process and from now on: it may hold up to 2 GB of freed
    memory until it ends.  Only Linux with glibc is asked.
    """
    return block > KEPT_ANYWAY and _raise_thresholds()


@functools.cache
def _raise_thresholds() -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT), libc.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)])
