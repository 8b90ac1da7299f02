"""Four sizes of one code path.  A scale only chooses Specs; nothing else asks for it."""

from __future__ import annotations

import torch

from lib.checks import did_you_mean

SCALES = ("smoke", "laptop", "cpu", "gpu")

#: Editions are made at these scales, the best first.
REFERENCE_SCALES = ("gpu", "cpu")


def check_scale(scale: str) -> str:
    """``scale`` if it is one; ValueError with the nearest name otherwise."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}.{did_you_mean(str(scale), SCALES)}")
    return scale


def cannot_run(scale: str) -> str | None:
    """Why Specs of this scale are not run on this machine; None when they can be."""
    if check_scale(scale) == "gpu" and not torch.cuda.is_available():
        return "the gpu scale needs a CUDA device and there is none here; use scale cpu or laptop to run it anyway"
    return None
