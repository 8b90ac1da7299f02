"""Where a number comes from: commit, versions, device, data, time."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from datetime import datetime, timezone

import torch

from lib import ROOT
from lib.precision import bf16_units


@functools.cache
def commit() -> dict[str, object]:
    """Git commit of the checkout and whether the code that makes numbers (``lib/``) is as committed.

    Only ``lib/`` counts: executing a chapter rewrites notebooks, which changes no number.
    Outside a git checkout both values are None.
    """
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "lib"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def provenance(device: torch.device) -> dict[str, object]:
    """What stands beside every number, except what only the run itself knows (data, seconds, memory)."""
    return {
        **commit(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_units(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "platform": f"{platform.system()} {platform.machine()}",
    }


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
