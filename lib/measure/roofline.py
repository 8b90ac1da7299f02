"""The roofline: a machine's two speeds, and the time that no call can beat (Williams et al., CACM 52(4), 2009).

times, bytes_moved = product(512, device, torch.float32), copying(64, device)
seconds = take_turns({"product": times.call, "copy": bytes_moved.call, "mine": mine}, 9, device)
cost.seconds(times.rate(min(seconds["product"])), bytes_moved.rate(min(seconds["copy"])))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes of one call."""

    flops: int
    bytes: int

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The roofline: no machine with these two speeds can be faster."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


@dataclass(frozen=True)
class Probe:
    """A call that does nothing but one kind of work, ``amount`` of it: FLOPs or bytes."""

    call: Callable[[], object]
    amount: float

    def rate(self, seconds: float) -> float:
        """FLOPs or bytes per second when the call takes this long."""
        return self.amount / seconds

    def repeated(self, times: int) -> Probe:
        """The same call ``times`` times in a row."""

        def call() -> None:
            for _ in range(times):
                self.call()

        return Probe(call, times * self.amount)


def product(size: int, device: torch.device, dtype: torch.dtype) -> Probe:
    """A product of two square matrices of ``size`` rows: 2 · size³ FLOPs."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return Probe(lambda: a @ b, 2 * size**3)


def copying(megabytes: float, device: torch.device) -> Probe:
    """A copy of this many MiB to another place: as many are read, and as many are written."""
    source = torch.ones(round(megabytes * 2**18), device=device)
    target = torch.empty_like(source)
    return Probe(lambda: target.copy_(source), 2 * 4 * source.numel())
