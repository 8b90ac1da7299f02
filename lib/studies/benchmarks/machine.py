"""What the finished networks of the benchmarks chapter cost on this machine: all of them take turns in one process."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.images import ImageSet, normalise
from lib.distillation.leaving import EarlyExit
from lib.measure.cost import peak_memory, ratio, take_turns
from lib.models.layers import Attention
from lib.pruning.sparse import sparse
from lib.quantization.fold import baked
from lib.runs.results import Outcome, Result, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.attention.api import TYPES
from lib.studies.benchmarks import names as benchmark_names
from lib.studies.benchmarks.task import Task, build
from lib.system.checks import one_of, require

#: Calls that are queued one behind the other to measure throughput, on devices that have a queue.
QUEUE = 8


@dataclass(frozen=True, kw_only=True)
class TimesRun(Spec):
    """Latency, throughput and memory of finished networks, and of the dense network of their family, untrained.

    ``trials``     Specs that have ``load(session)``, all of one task; what they need is trained first
    ``batches``    images per call
    ``precision``  "fp32", or "bf16": weights and images in it
    ``rounds``     in which all networks take turns with one batch
    ``singles``    different validation images that pass one at a time where the batch is 1, each ``passes`` times

    A network is timed as it would be used: masks and codebooks are plain weights.  Zeros are multiplied like other numbers;
    only where precision is "bf16" on an NVIDIA GPU, a network pruned 2:4 runs in semi-structured form and half precision.
    With early exits each image runs as far as it needs to, alone or with others in a batch.  Batch norm stays as it is.

    ``rows``, one per trial and batch: ``ms`` and ``p95_ms`` of a call; ``mean_ms``, the mean over images of each image's
    median, which is what early exits change; ``ratio`` with its 5th and 95th percentile, over the dense network in the same
    round, and ``mean_ratio`` of the means; ``images_per_second``; ``peak_bytes`` of a forward pass beyond the weights.
    """

    experiment: ClassVar[str] = "benchmark-times"

    trials: tuple[Spec, ...]
    batches: tuple[int, ...] = (1, 256)
    precision: str = "fp32"
    rounds: int = 15
    singles: int = 32
    passes: int = 3

    def __post_init__(self) -> None:
        one_of("precision", self.precision, TYPES)
        require(
            self.trials and len({task_of(trial) for trial in self.trials}) == 1,
            "trials must be one or more runs of the same task: time different tasks in runs of their own",
        )
        require(
            self.batches and min(self.batches) >= 1 and self.rounds >= 2 and self.singles >= 1 and self.passes >= 2,
            f"batches {self.batches}, rounds {self.rounds}, singles {self.singles}, passes {self.passes}: at least one "
            "image, 2 rounds and 2 passes",
        )

    @property
    def label(self) -> str:
        """A line without the settings of every network."""
        return f"{self.experiment} of {len(self.trials)} networks on {task_of(self.trials[0]).dataset}"

    def run(self, session: Session) -> Outcome:
        task = task_of(self.trials[0])
        images = task.images(session.device)
        found = {str(number): contender(trial, session, self.precision) for number, trial in enumerate(self.trials)}
        found |= {
            family: ready(build(task.whole(family), 0), task, family, session.device, TYPES[self.precision])
            for family in sorted({family_of(trial) for trial in self.trials})
        }
        rows = []
        for done, batch in enumerate(self.batches):
            rows += self.rows(batch, found, images, session.device)
            session.report((done + 1) / len(self.batches), f"batches of {batch}")
        return Outcome({"threads": torch.get_num_threads()}, arrays=significant({"rows": rows}), data=images.provenance())

    @torch.no_grad()
    def rows(self, batch: int, found: dict[str, Contender], images: ImageSet, device: torch.device) -> list[dict]:
        """A row for each trial, all called with the same batches of validation images in turn."""
        inputs = batches(images, batch, self.singles if batch == 1 else 1)
        calls = {name: one.call(inputs, alone=batch == 1) for name, one in found.items()}
        seconds = take_turns(calls, self.passes * self.singles if batch == 1 else self.rounds, device)
        queues = queued(calls, self.rounds, device) if batch > 1 else {}
        rows = []
        for number, trial in enumerate(self.trials):
            name, dense = str(number), family_of(trial)
            mean, dense_mean = (typical(seconds[which], len(inputs)) for which in (name, dense))
            rows.append(
                {
                    "position": number,
                    "key": trial.key,
                    "family": dense,
                    "batch": batch,
                    "form": found[name].form,
                    "ms": 1000 * statistics.median(seconds[name]),
                    "p95_ms": 1000 * float(np.quantile(seconds[name], 0.95)),
                    "mean_ms": 1000 * mean,
                    "mean_ratio": mean / dense_mean,
                    **ratio(seconds[name], seconds[dense]),
                    "dense_ms": 1000 * statistics.median(seconds[dense]),
                    "images_per_second": batch / queues.get(name, mean),
                    "peak_bytes": peak_memory(calls[name], device),
                }
            )
        return rows


@dataclass(frozen=True, eq=False)
class Contender:
    """A network ready to be timed, its numbers' type and memory layout, and what it runs as."""

    network: nn.Module
    dtype: torch.dtype
    channels_last: bool = False
    form: str = "dense"

    def call(self, inputs: Sequence[Tensor], alone: bool) -> Callable[[], object]:
        """A call that takes the next of ``inputs`` each time; ``alone``: single images, until their class is known."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        coming = itertools.cycle([x.to(self.dtype).contiguous(memory_format=layout) for x in inputs])

        def answer() -> int:
            return int(self.network(next(coming)).argmax())

        def whole() -> Tensor:
            return self.network(next(coming))

        return answer if alone else whole


def contender(trial: Spec, session: Session, precision: str) -> Contender:
    """The trial's network in the form in which it is used."""
    task, family, dtype = task_of(trial), family_of(trial), TYPES[precision]
    network = baked(copy.deepcopy(trial.load(session)).eval())
    if precision == "bf16" and session.device.type == "cuda" and semi_structured(trial):
        return Contender(sparse(called(network.to(session.device)), "2:4"), torch.float16, form="2:4")
    return ready(network, task, family, session.device, dtype)


def ready(network: nn.Module, task: Task, family: str, device: torch.device, dtype: torch.dtype) -> Contender:
    """The network on its device, in this type and the memory layout that it was trained in."""
    channels_last = task.recipe(family).channels_last
    early = isinstance(network, EarlyExit)
    thresholds = network.thresholds.clone() if early else None
    network = network.to(device, dtype).eval()
    if early:
        network.thresholds = thresholds.to(device)  # bfloat16 would round 0.999 to 1, which nothing exceeds
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Contender(network, dtype, channels_last, "early exits" if early else "dense")


def task_of(trial: Spec) -> Task:
    return trial.task if hasattr(trial, "task") else trial.parent.task


def family_of(trial: Spec) -> str:
    return trial.family if hasattr(trial, "family") else trial.parent.family


def semi_structured(trial: Spec) -> bool:
    """Whether a stage of the trial left two of each four weights."""
    return any(getattr(stage, "structure", None) == "2:4" for stage in getattr(trial, "stages", ()))


def batches(images: ImageSet, batch: int, count: int) -> list[Tensor]:
    """``count`` batches of validation images [batch, C, H, W], from the first on and again where there are too few."""
    held = normalise(images.validation.images[: batch * count], images)
    repeats = -(-batch * count // len(held))
    return list(held.repeat(repeats, 1, 1, 1)[: batch * count].split(batch))


def typical(seconds: Sequence[float], inputs: int) -> float:
    """Mean over inputs of the median time of each, when calls took them in turn."""
    return torch.tensor(seconds, dtype=torch.float64).view(-1, inputs).quantile(0.5, dim=0).mean().item()


def queued(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of a call among :data:`QUEUE` that are not waited for; none on the CPU, where nothing queues."""
    if device.type == "cpu":
        return {}

    def several(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(QUEUE):
                call()

        return run

    seconds = take_turns({name: several(call) for name, call in calls.items()}, rounds, device)
    return {name: statistics.median(values) / QUEUE for name, values in seconds.items()}


class Called(nn.Module):
    """A transformer's :class:`~lib.models.layers.Attention` that calls its two layers, whatever form they have."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.qkv, self.out, self.heads = attention.qkv, attention.out, attention.heads

    def forward(self, x_BND: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def called(model: nn.Module) -> nn.Module:
    """``model`` with each attention as a :class:`Called`, in place, so that its layers may be replaced by sparse ones."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention):
            model.set_submodule(name, Called(module))
    return model


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row per run, trial and batch: ``name`` and ``family``, what was measured (see :class:`TimesRun`), ``device``.

    ``key`` is the trial's, to be joined with its other metrics; tidy for :mod:`lib.figures.compare`.
    """
    return pd.DataFrame(
        [
            row
            | {
                "name": benchmark_names.name(result.spec["trials"][row["position"]]),
                "precision": result.spec["precision"],
                "threads": result.metrics["threads"],
                "seed": result.spec["seed"],
                "device": result.provenance["device"],
            }
            for result in results
            for row in result.arrays["rows"]
        ]
    )
