"""Which number format to compute in: bfloat16 where the device multiplies it faster, else fp32.

A processor without units for bfloat16 emulates it.  On an Intel Xeon of the Ice Lake generation (AVX-512, neither
AMX nor AVX-512 BF16) a matrix product in bfloat16 takes three times as long as in fp32; with AMX it takes a tenth.
"""

from __future__ import annotations

import contextlib
import functools
import sys

import torch

from lib.system.checks import one_of

#: "fp32" and "bf16" mean what they say on every device; "auto" is "bf16" where the device has units for it.
PRECISIONS = ("fp32", "bf16", "auto")


@functools.cache
def bf16_units(device: torch.device) -> str | None:
    """Name what multiplies bfloat16 on ``device``: "AMX", "AVX-512", "SVE", "GPU", or None where it is emulated."""
    if device.type == "cuda":
        return "GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "mps":
        return "GPU"
    flags = processor_flags()
    for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512"), ("svebf16", "SVE"), ("bf16", "NEON")):
        if flag in flags:
            return name
    return None


def has_bf16_units(device: torch.device) -> bool:
    return bf16_units(device) is not None


def resolved(precision: str, device: torch.device) -> str:
    """Return "fp32" or "bf16": what ``precision`` means on ``device``.  Raises ValueError for an unknown one."""
    one_of("precision", precision, PRECISIONS)
    if precision == "auto":
        return "bf16" if has_bf16_units(device) else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return the context for forward passes: bfloat16 where that is safe, or nothing for fp32."""
    if resolved(precision, device) == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


@functools.cache
def processor_flags() -> frozenset[str]:
    """Return the instruction sets that Linux lists for this processor; empty on other systems."""
    if sys.platform != "linux":
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()
