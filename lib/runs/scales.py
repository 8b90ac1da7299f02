"""Four sizes of one code path.  A scale only chooses Specs; nothing else asks for it."""

from __future__ import annotations

import os

import torch

from lib.system.checks import did_you_mean

SCALES = ("smoke", "laptop", "cpu", "gpu")

#: Editions are made at these scales, the best first.
REFERENCE_SCALES = ("gpu", "cpu")


def check_scale(scale: str) -> str:
    """``scale`` if it is one; ValueError with the nearest name otherwise."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}.{did_you_mean(str(scale), SCALES)}")
    return scale


#: Set in the environment of an edition's chapters: what is planned at a reference scale and not stored stays missing.
REPLAYS = "BOOK_REPLAYS"

#: Why it is missing.
PLANNED = "planned, and not run for this edition"


def cannot_run(scale: str) -> str | None:
    """Why Specs of this scale are not run on this machine; None when they can be."""
    if check_scale(scale) in REFERENCE_SCALES and os.environ.get(REPLAYS):
        return PLANNED
    if check_scale(scale) == "gpu" and not torch.cuda.is_available():
        return "the gpu scale needs a CUDA device and there is none here; use scale cpu or laptop to run it anyway"
    return None
