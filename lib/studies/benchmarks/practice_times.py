"""How much faster the compressed geometries of the benchmarks chapter's first regime run on this machine: all take turns in one process."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from lib.data.images import ImageSet, normalise
from lib.measure.cost import peak_memory, ratio, take_turns
from lib.models.whitened_cnn import WhitenedCNN, WhitenedCNNConfig, whiten
from lib.quantization.even import rounded
from lib.quantization.int8 import input_ranges, with_int8_convolutions
from lib.runs.results import Outcome, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.base.images import available_images
from lib.studies.benchmarks.compress import CALIBRATED, STEM
from lib.studies.benchmarks.machine import Contender, batches, typical
from lib.system.checks import require


@dataclass(frozen=True)
class Timed:
    """What is timed: a network of this geometry, with or without 8-bit products in its convolutions."""

    model: WhitenedCNNConfig
    int8: bool = False


@dataclass(frozen=True, kw_only=True)
class CompressedTimes(Spec):
    """Latency of networks of several geometries over that of the first, which is the one that was compressed.

    The networks are untrained: their values do not change how long products take.  Weights that are zero, or that few codes
    stand for, are multiplied like others, so pruned and coded networks take the time of the first one.

    ``batches``  images per call;  ``rounds`` in which all take turns;  ``singles`` images that pass one at a time where the
                 batch is 1, each ``passes`` times
    Arrays: ``rows``, one per network and batch: ``ms`` and ``p95_ms`` of a call, ``ratio`` to the first network in the same
    round with its 5th and 95th percentile, ``peak_bytes`` beyond the weights.
    """

    experiment: ClassVar[str] = "compressed-times"

    dataset: str = "cifar10"
    networks: tuple[Timed, ...]
    batches: tuple[int, ...] = (1, 256)
    rounds: int = 15
    singles: int = 16
    passes: int = 3
    channels_last: bool = True

    def __post_init__(self) -> None:
        require(len(self.networks) >= 2 and not self.networks[0].int8, "networks must be two or more, the first of them the dense one")

    def run(self, session: Session) -> Outcome:
        device = torch.device("cpu") if any(one.int8 for one in self.networks) else session.device
        images = available_images(self.dataset, None, device)
        found = {place: self.contender(one, images) for place, one in enumerate(self.networks)}
        rows = []
        for done, batch in enumerate(self.batches):
            rows += self.rows(batch, found, images, device)
            session.report((done + 1) / len(self.batches), f"batches of {batch}")
        return Outcome({"threads": torch.get_num_threads()}, arrays=significant({"rows": rows}), data=images.provenance())

    def contender(self, one: Timed, images: ImageSet) -> Contender:
        return Contender(network(one, images, self.seed, self.channels_last), torch.float32, self.channels_last)

    @torch.no_grad()
    def rows(self, batch: int, found: dict[int, Contender], images: ImageSet, device: torch.device) -> list[dict]:
        inputs = batches(images, batch, self.singles if batch == 1 else 1)
        calls = {place: one.call(inputs, alone=batch == 1) for place, one in found.items()}
        seconds = take_turns(calls, self.passes * self.singles if batch == 1 else self.rounds, device)
        return [
            {
                "position": place,
                "batch": batch,
                "ms": 1000 * statistics.median(taken),
                "p95_ms": 1000 * float(np.quantile(taken, 0.95)),
                "mean_ms": 1000 * typical(taken, len(inputs)),
                **ratio(taken, seconds[0]),
                "peak_bytes": peak_memory(calls[place], device),
            }
            for place, taken in seconds.items()
        ]


def network(one: Timed, images: ImageSet, seed: int, channels_last: bool) -> nn.Module:
    """Return an untrained network of that geometry, as it is used."""
    torch.manual_seed(seed)
    model = WhitenedCNN(one.model)
    shown = normalise(images.train.images[:CALIBRATED], images).cpu()
    whiten(model, shown)
    model = model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).eval()
    if one.int8:
        return with_int8_convolutions(rounded(model, 8, ignored=STEM), input_ranges(model, shown, STEM))
    return model.to(images.train.images.device)
