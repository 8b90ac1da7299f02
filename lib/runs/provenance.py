"""Where a number comes from: commit, versions, device, data, time."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime

import torch

from lib import ROOT
from lib.runs.versions import lock
from lib.system.device import device_name
from lib.system.precision import bf16_units


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
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_units(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lock": lock(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "platform": f"{platform.system()} {platform.machine()}",
    }
