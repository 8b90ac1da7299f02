"""Learning-rate schedule: linear warm-up, then half a cosine, decided per step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: float, final: float) -> float:
    """Factor on the learning rate at ``step`` (from 0) of ``steps``.

    warmup: fraction of all steps that climb linearly to 1; the first one is above 0 already.
    final: the factor the cosine ends at (SGDR without restarts, arXiv 1608.03983, eq. 5).
    """
    climb = round(warmup * steps)
    if step < climb:
        return (step + 1) / climb
    part = (step - climb) / max(1, steps - climb)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))
