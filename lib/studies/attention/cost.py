"""What attention costs: time of each contender, memory and operations of each, and this machine's two speeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from lib.measure.cost import latency, peak_memory, ratio, take_turns
from lib.measure.flop_count import count_flops
from lib.measure.roofline import copying, product
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.attention.contenders import TYPES, Attention, Setting, contenders, share_computed
from lib.system.checks import one_of

PASSES = ("forward", "training")


@dataclass(frozen=True, kw_only=True)
class TimingRun(Spec):
    """Time of each of ``names`` at one ``length``, all of them taking turns.

    ``passes``  "forward" alone, or "training": forward and backward
    """

    experiment: ClassVar[str] = "attention-timing"

    length: int
    names: tuple[str, ...]
    passes: str = "training"
    setting: Setting = field(default_factory=Setting)
    rounds: int = 7

    def __post_init__(self) -> None:
        one_of("passes", self.passes, PASSES)

    def run(self, session: Session) -> Outcome:
        training = self.passes == "training"
        calls, absent = contenders(self.names, self.setting, self.length, session.device, training)
        q, k, v, do = self.setting.tensors(self.length, session.device, self.seed, 4)
        ready = {name: timed_call(call, q, k, v, do, training) for name, call in calls.items()}
        for name, call in list(ready.items()):
            try:
                call()
            except torch.OutOfMemoryError:
                absent[name] = "it does not fit into this device's memory"
                del ready[name]
        seconds = take_turns(ready, self.rounds, session.device)
        metrics: dict[str, float | str] = {f"absent_{name}": reason for name, reason in absent.items()}
        for name in ready:
            metrics[f"ms_{name}"] = 1000 * statistics.median(seconds[name])
            metrics[f"share_{name}"] = share_computed(name, self.setting, self.length)
            if "standard" in ready:
                metrics |= {
                    f"speed_up_{name}{what.removeprefix('ratio')}": value
                    for what, value in ratio(seconds["standard"], seconds[name]).items()
                }
        return Outcome(significant(metrics))


def timed_call(attention: Attention, q: Tensor, k: Tensor, v: Tensor, do: Tensor, training: bool) -> Callable[[], object]:
    if not training:

        def forward() -> None:
            with torch.no_grad():
                attention(q, k, v)

        return forward
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(attention(*inputs), inputs, do)


@dataclass(frozen=True, kw_only=True)
class MemoryRun(Spec):
    """Bytes and operations of a forward and backward pass of each of ``names`` at each of ``lengths``.

    Peak: the most bytes at any moment beyond the inputs, as :func:`lib.measure.cost.peak_memory` counts them.  Kept: bytes of
    all tensors that autograd keeps between the passes, each storage once, among them the inputs.
    """

    experiment: ClassVar[str] = "attention-memory"

    lengths: tuple[int, ...]
    names: tuple[str, ...]
    setting: Setting = field(default_factory=lambda: Setting(heads=1))

    def run(self, session: Session) -> Outcome:
        arrays: dict[str, list] = {"lengths": list(self.lengths)}
        for done, length in enumerate(self.lengths):
            calls, _ = contenders(self.names, self.setting, length, session.device, training=True)
            q, k, v, do = self.setting.tensors(length, session.device, self.seed, 4)
            for name, call in calls.items():
                one = timed_call(call, q, k, v, do, training=True)
                for what, value in {
                    "peak": peak_memory(one, session.device),
                    "kept": kept_bytes(call, q, k, v),
                    "flops": count_flops(one),
                }.items():
                    arrays.setdefault(f"{what}_{name}", []).append(value)
            session.report((done + 1) / len(self.lengths), f"{length} tokens")
        return Outcome({}, arrays=arrays)


def kept_bytes(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> int:
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    with saved_tensors_hooks(note, lambda x: x):
        attention(*inputs)
    return sum(kept.values())


@dataclass(frozen=True, kw_only=True)
class MachineRun(Spec):
    """The two speeds of a roofline: of matrix products, and of main memory, read and written by a copy of ``megabytes``."""

    experiment: ClassVar[str] = "attention-machine"

    precision: str = "fp32"
    size: int = 1024
    megabytes: int = 256
    repeats: int = 7

    def run(self, session: Session) -> Outcome:
        device = session.device
        times, moves = product(self.size, device, TYPES[self.precision]), copying(self.megabytes, device)
        multiplied, copied = (latency(probe.call, device=device, warmup=2, repeats=self.repeats) for probe in (times, moves))
        return Outcome(
            significant({"flops_per_second": times.rate(multiplied.p50_ms / 1000), "bytes_per_second": moves.rate(copied.p50_ms / 1000)})
        )
