"""What a model costs: parameters, FLOPs, time, memory, bytes on disk.  Measured, except the parameters.

Time and FLOPs are of what really runs.  A weight that is masked to zero still costs its multiplication,
its parameter and its bytes here: only removing it makes these numbers smaller.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn

from lib.measure.flop_count import count_flops
from lib.system.device import synchronise


def parameters(model: nn.Module) -> int:
    """Number of parameters; tied ones count once, buffers (masks, running statistics) do not."""
    return sum(p.numel() for p in model.parameters())


def active_parameters(model: nn.Module) -> int:
    """Number of parameters that one input passes through.

    A module that uses only part of its parameters per input, such as a mixture of experts, defines
    ``active_parameters()``; that number then stands for the module and all inside it.
    """
    counted: set[nn.Parameter] = set()

    def count(module: nn.Module) -> int:
        knows = getattr(module, "active_parameters", None)
        own = set(module.parameters(recurse=knows is not None)) - counted
        counted.update(own)
        if knows is not None:
            return knows()
        return sum(p.numel() for p in own) + sum(count(child) for child in module.children())

    return count(model)


@torch.no_grad()
def flops(model: nn.Module, *inputs: torch.Tensor) -> int:
    """Return the floating-point operations of one forward pass in evaluation mode, as :func:`count_flops` counts them."""
    mode = model.training
    model.eval()
    try:
        return count_flops(lambda: model(*inputs))
    finally:
        model.train(mode)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call: median, 95th percentile, and of how many calls."""

    p50_ms: float
    p95_ms: float
    n: int


def latency(fn: Callable[[], object], *, device: torch.device, warmup: int = 10, repeats: int = 50) -> Latency:
    """Wall time of ``fn()`` from the call until ``device`` has finished.

    ``warmup`` calls go unmeasured: they compile, choose kernels and fill caches.  The garbage collector
    is off meanwhile.  Wrap ``fn`` in ``torch.no_grad()`` to time inference.
    """
    if repeats < 2 or warmup < 0:
        raise ValueError(f"repeats is {repeats}, warmup is {warmup}: at least 2 repeats and 0 warm-up calls are needed")
    for _ in range(warmup):
        fn()
    milliseconds = []
    with garbage_collector_off():
        for _ in range(repeats):
            milliseconds.append(1000 * timed(fn, 1, device))
    p95 = statistics.quantiles(milliseconds, n=20, method="inclusive")[-1]
    return Latency(statistics.median(milliseconds), p95, repeats)


#: Rounds of :func:`take_turns` that go unmeasured.
WARM_UP = 3


def take_turns(calls: Mapping[Hashable, Callable[[], object]], rounds: int, device: torch.device) -> dict[Hashable, list[float]]:
    """Seconds of each call in each of ``rounds`` rounds, in which all are called one after the other.

    Times on a shared machine drift by more than the differences one looks for, so what is compared takes turns in
    one process, and what counts is the ratio within a round, with its spread over the rounds: :func:`ratio`.
    """
    seconds: dict[Hashable, list[float]] = {name: [] for name in calls}
    with garbage_collector_off():
        for round in range(-WARM_UP, rounds):
            for name, call in calls.items():
                took = timed(call, 1, device)
                if round >= 0:
                    seconds[name].append(took)
    return seconds


def ratio(seconds: list[float], baseline: list[float]) -> dict[str, float]:
    """Quotient of two calls that took turns: median, 5th and 95th percentile over the rounds."""
    quotients = torch.tensor(seconds, dtype=torch.float64) / torch.tensor(baseline, dtype=torch.float64)
    low, middle, high = quotients.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
    return {"ratio": middle, "ratio_p05": low, "ratio_p95": high}


def throughput(fn: Callable[[], object], items: int, *, device: torch.device, seconds: float = 1.0) -> float:
    """Items per second when ``fn()``, which handles ``items``, is called again and again for ``seconds``.

    Calls are queued without waiting in between, as in real use, so this can beat items / latency.
    """
    timed(fn, 3, device)
    calls = max(3, math.ceil(seconds / timed(fn, 1, device)))
    with garbage_collector_off():
        return items * calls / timed(fn, calls, device)


def peak_memory(fn: Callable[[], object], device: torch.device) -> int | None:
    """Most bytes that ``fn()`` needs at any moment beyond what was allocated before: activations,
    gradients, results and work space, not the weights, which exist already (see :func:`file_bytes`).

    ``fn`` is called twice and the second call is measured, so it must clear gradients it leaves behind.
    CUDA: from the caching allocator's statistics.  CPU: every allocation and release of torch's
    allocator while ``fn`` runs, from torch's profiler; what libraries allocate by other means is not
    seen.  None on MPS, which keeps no peak.
    """
    fn()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        fn()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks on stderr otherwise
    profile = torch.autograd.profiler.profile(profile_memory=True)
    with profile:
        fn()
    recorded: Any = profile.kineto_results  # torch does not say what an event has
    changes = sorted((event.start_ns(), event.nbytes()) for event in recorded.events() if event.name() == "[memory]")
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


def file_bytes(model: nn.Module) -> int:
    """Bytes of the model's state written as a safetensors file, tied weights once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, str(path))
        return path.stat().st_size


def timed(fn: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds of ``calls`` calls in a row, until the device has finished the last."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    synchronise(device)
    return time.perf_counter() - start


@contextmanager
def garbage_collector_off() -> Iterator[None]:
    """No pause for garbage within this context."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
