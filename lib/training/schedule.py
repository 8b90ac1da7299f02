"""Learning-rate schedules, decided per step: a linear warm-up, then half a cosine or a straight line."""

from __future__ import annotations

import math

from lib.system.checks import one_of

SCHEDULES = ("cosine", "linear")


def rate(schedule: str, step: int, steps: int, warmup: float, final: float) -> float:
    """Return the factor on the learning rate at ``step`` (from 0) of ``steps``, by the schedule of that name."""
    one_of("schedule", schedule, SCHEDULES)
    return (warmup_cosine if schedule == "cosine" else warmup_linear)(step, steps, warmup, final)


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


def warmup_linear(step: int, steps: int, warmup: float, final: float) -> float:
    """The same climb, then a straight line to ``final``, which is reached after the last step.

    At a small budget it beats the cosine, whose last tenth hardly moves (arXiv 2310.07831).
    """
    climb = round(warmup * steps)
    if step < climb:
        return (step + 1) / climb
    return 1 - (1 - final) * (step - climb) / max(1, steps - climb)
