"""Keeping freed memory, on Linux: most of what 64 experts cost on a CPU is getting memory from the kernel.

With 64 experts of 320 x 1024 the two weight gradients of a step are 84 MB each.  glibc takes every block
above 32 MB straight from the kernel and gives it back when it is freed, so that each step begins with
40 000 page faults, and the kernel zeroes 168 MB that are then overwritten.
"""

from __future__ import annotations

import ctypes
import functools
import sys

# Parameters of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep blocks of up to 2 GiB for the next allocation.  True if it could be arranged.

    For the whole process and from now on: it may hold on to its peak memory until it ends.  Only glibc
    is asked; elsewhere, nothing happens.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(M_MMAP_THRESHOLD, LARGEST), libc.mallopt(M_TRIM_THRESHOLD, LARGEST)])
