"""What a training run notes down: means of its scalars, a curve for each, and whether the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lib.system import distributed
from lib.system.checks import require


class Means:
    """Means of scalars over an epoch and over the steps since the last look.

    Sums grow on the device; only :meth:`look` waits for it, with one transfer for all of them.
    """

    def __init__(self):
        self.recent: dict[str, Tensor] = {}
        self.recent_counts: dict[str, int] = {}
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.recent[name] = self.recent[name] + value if name in self.recent else value
            self.recent_counts[name] = self.recent_counts.get(name, 0) + 1

    def look(self) -> dict[str, float]:
        """Means since the last look, over all processes."""
        together = torch.stack(list(self.recent.values()))
        distributed.average([together])
        sums, counts = dict(zip(self.recent, together.tolist())), self.recent_counts
        for name in sums:
            self.sums[name] = self.sums.get(name, 0.0) + sums[name]
            self.counts[name] = self.counts.get(name, 0) + counts[name]
        self.recent, self.recent_counts = {}, {}
        return {name: sums[name] / counts[name] for name in sums}

    def counts_and_sums(self) -> dict[str, dict]:
        """What :meth:`restored` needs besides :meth:`tensors`, as JSON data."""
        return {"recent_counts": self.recent_counts, "sums": self.sums, "counts": self.counts}

    def tensors(self) -> dict[str, Tensor]:
        """The sums that still lie on the device."""
        return {f"recent.{name}": value for name, value in self.recent.items()}

    @classmethod
    def restored(cls, record: dict[str, dict], tensors: dict[str, Tensor], device: torch.device) -> Means:
        """Return the means as they were when saved.  Raises KeyError or ValueError where something is missing."""
        means = cls()
        require(all(isinstance(part, dict) for part in record.values()), "means that are none")
        means.recent_counts, means.sums, means.counts = (record[name] for name in ("recent_counts", "sums", "counts"))
        means.recent = {name: tensors[f"recent.{name}"].to(device) for name in means.recent_counts}
        return means

    def epoch(self) -> dict[str, float]:
        """Means over all that was looked at."""
        return {name: self.sums[name] / self.counts[name] for name in self.sums}


@dataclass
class Watch:
    """Notices divergence: a loss that is not finite, or ``PATIENCE`` looks in a row far above the start.

    Far is ``FACTOR`` times the first loss, or times 1 where training starts lower than that: a network
    that is fine-tuned begins near zero, and may rise a little while the learning rate climbs.
    """

    FACTOR: ClassVar[float] = 3.0
    PATIENCE: ClassVar[int] = 3

    start: float | None = None
    high: int = 0
    diverged_at: int | None = None

    def look(self, loss: float, step: int) -> None:
        if self.start is None:
            self.start = loss
        self.high = self.high + 1 if loss > self.FACTOR * max(self.start, 1.0) else 0
        if not math.isfinite(loss) or self.high >= self.PATIENCE:
            self.diverged_at = step


def append(curves: dict[str, list], values: Mapping[str, float | list]) -> None:
    """Add an epoch's values.  A curve that lacks one, earlier or now, holds NaN there."""
    epochs = max((len(curve) for curve in curves.values()), default=0)
    for name in curves.keys() | values.keys():
        curves.setdefault(name, [math.nan] * epochs).append(values.get(name, math.nan))


def joined(values: dict, more: dict, source: str) -> dict:
    """Both dicts in one.  Raises ValueError where a curve would be written twice."""
    if twice := sorted(values.keys() & more.keys()):
        raise ValueError(f"{source} returned {', '.join(twice)}, which training records already: use another name")
    return values | more


def check_progress(epoch: int, step: int, curves: dict[str, list], watch: Watch, epochs: int, steps: int) -> None:
    """Raise ValueError unless these are what training keeps in step ``step`` of ``steps`` after ``epoch`` of ``epochs``."""
    require(type(epoch) is int and 0 <= epoch <= epochs, f"epoch {epoch!r} of {epochs}")
    require(type(step) is int and 0 <= step < steps and epoch + step > 0, f"step {step!r} of {steps} in epoch {epoch}")
    require(
        type(curves) is dict
        and bool(curves) == bool(epoch)
        and all(type(curve) is list and len(curve) == epoch for curve in curves.values()),
        f"curves that are not {epoch} epochs long",
    )
    require(watch.start is None or isinstance(watch.start, (int, float)) and math.isfinite(watch.start), f"a first loss of {watch.start!r}")
    require(type(watch.high) is int and 0 <= watch.high < Watch.PATIENCE and watch.diverged_at is None, "a loss that diverged")
