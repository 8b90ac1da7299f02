"""Which device to compute on, what it is, how many cores there are, and how to wait."""

from __future__ import annotations

import functools
import os
import platform
import sys
from typing import Any

import torch


def pick(name: str | None = None) -> torch.device:
    """The device called ``name``, or the fastest there is: CUDA, then Apple's MPS, then the CPU.

    "cuda" without an index is this process's own GPU, also under ``torchrun``.
    Raises ValueError for a name that is not a device, RuntimeError for a device this machine lacks.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"unknown device {name!r}: use 'cpu', 'cuda', 'cuda:1' … or 'mps'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError("device 'mps' was asked for, but torch finds no Apple GPU here: use 'cpu'")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            built = torch.version.cuda or "no CUDA"
            raise RuntimeError(
                f"device {name!r} was asked for, but torch {torch.__version__} (built for {built}) "
                "finds no GPU here: use 'cpu', or install a driver and a CUDA build of torch"
            )
        if device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        if device.index >= count:
            raise RuntimeError(f"device {name!r} was asked for, but there are {count} GPUs: cuda:0 to cuda:{count - 1}")
    return device


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: torch.device) -> dict[str, Any]:
    """``{"name", "type", "memory_bytes", "threads"}``; memory is the GPU's own, or the machine's."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:  # Windows has no sysconf
        memory = None
    return {"name": device_name(device), "type": device.type, "memory_bytes": memory, "threads": torch.get_num_threads()}


def synchronise(device: torch.device) -> None:
    """Wait until all work queued on ``device`` is done; nothing to wait for on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_name(device: torch.device) -> str:
    """The name people know the device by, "NVIDIA H200" or the processor's model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple {platform.machine()} (MPS)"
    return processor_name()


@functools.cache
def processor_name() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
