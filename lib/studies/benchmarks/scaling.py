"""How time grows with work on this machine, and how near each call comes to the machine's limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from lib.measure.cost import ratio, take_turns
from lib.measure.roofline import Probe, copying, product
from lib.runs.results import Outcome, Result, significant
from lib.runs.spec import Spec
from lib.runs.store import Session
from lib.studies.attention.api import TYPES
from lib.studies.benchmarks.axes import AXES, Geometry, Point
from lib.system.checks import one_of, require

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ScalingRun(Spec):
    """Time of the same work at each size along one axis, forward and in training, against its roofline.

    ``axis``       "experts", "width", "depth", "sequence" or "sparsity": see :mod:`lib.studies.benchmarks.axes`
    ``values``     sizes along it; None: the axis's usual ones
    ``precision``  "fp32" or "bf16"
    ``square``     rows of the matrices whose product measures arithmetic
    ``copied``     the least and the most MiB whose copy measures memory

    All calls take turns.  Right before each of them come products of square matrices with about as many FLOPs as the call,
    and a copy of as many bytes as it must move, within ``copied``.  These are the ceilings of that call: the same slow
    moments of the machine and the same caches hit all three.  A ceiling is a best case, so the fastest round counts, and
    what a longer probe reaches counts for shorter ones too (:func:`ceilings`).  The ``share`` of the roofline is

        max(FLOPs / products' rate, bytes / copy's rate) / seconds of the fastest call.

    Ratios between sizes are medians over rounds.  ``unrest`` is how much longer than the fastest of the products the median
    takes: about 1 on a machine with nothing else to do.
    """

    experiment: ClassVar[str] = "benchmark-scaling"

    axis: str
    values: tuple[float, ...] | None = None
    geometry: Geometry = field(default_factory=Geometry)
    precision: str = "fp32"
    rounds: int = 7
    square: int = 512
    copied: tuple[float, float] = (1, 64)

    def __post_init__(self) -> None:
        one_of("axis", self.axis, AXES)
        one_of("precision", self.precision, TYPES)
        require(
            self.rounds >= 2 and self.square >= 1 and 0 < self.copied[0] <= self.copied[1],
            f"rounds {self.rounds}, square {self.square}, copied {self.copied}: at least 2 rounds, a matrix of one row, "
            "and a copy of something",
        )
        require(self.sizes, "values is empty: give at least one size, or None for the usual ones")
        if self.axis == "sparsity":
            require(all(0 <= value < 1 for value in self.sizes), f"sparsities {self.sizes} must be shares in [0, 1)")
        else:
            require(
                all(value >= 1 and value == int(value) for value in self.sizes), f"values {self.sizes} must be whole numbers of at least 1"
            )

    @property
    def sizes(self) -> tuple[float, ...]:
        return AXES[self.axis][1] if self.values is None else self.values

    def points(self, device: torch.device) -> list[Point]:
        """What is timed.  Weights and inputs are random, the same for the same seed and device."""
        torch.manual_seed(self.seed)
        make, _ = AXES[self.axis]
        return [point for value in self.sizes for point in make(value, self.geometry, device, TYPES[self.precision])]

    def run(self, session: Session) -> Outcome:
        device = session.device
        points = self.points(device)
        square = product(self.square, device, TYPES[self.precision])
        products = [square.repeated(max(1, round(point.cost.flops / square.amount))) for point in points]
        copies = [copying(min(max(point.cost.bytes / 2 / MIB, self.copied[0]), self.copied[1]), device) for point in points]
        calls = {}
        for number, (point, times, moves) in enumerate(zip(points, products, copies)):
            calls |= {("product", number): times.call, ("copy", number): moves.call, ("call", number): point.call}
        seconds = take_turns(calls, self.rounds, device)
        arithmetic, memory = (
            ceilings(probes, [seconds[what, number] for number in range(len(points))])
            for what, probes in (("product", products), ("copy", copies))
        )
        rows = []
        for number, point in enumerate(points):
            smallest = next(n for n, p in enumerate(points) if (p.series, p.passes) == (point.series, point.passes))
            grown = ratio(seconds["call", number], seconds["call", smallest])
            rows.append(
                {
                    "series": point.series,
                    "value": point.value,
                    "passes": point.passes,
                    "flops": point.cost.flops,
                    "bytes": point.cost.bytes,
                    **judged(point, seconds["call", number], arithmetic[number], memory[number]),
                    **{name.replace("ratio", "grown"): value for name, value in grown.items()},
                }
            )
        most = max(range(len(points)), key=lambda number: copies[number].amount)
        unrest = statistics.median(
            statistics.median(seconds["product", number]) / min(seconds["product", number]) for number in range(len(points))
        )
        metrics = {
            "threads": torch.get_num_threads(),
            "flops_per_second": max(row["flops_per_second"] for row in rows),
            "bytes_per_second": rows[most]["bytes_per_second"],
            "unrest": unrest,
        }
        return Outcome(significant(metrics), arrays=significant({"rows": rows}))


def ceilings(probes: Sequence[Probe], seconds: Sequence[Sequence[float]]) -> list[float]:
    """The highest rate that each probe, or one with more to do, reached in any round: more work is never faster."""
    fastest = [probe.rate(min(took)) for probe, took in zip(probes, seconds)]
    return [max(rate for other, rate in zip(probes, fastest) if other.amount >= probe.amount) for probe in probes]


def judged(point: Point, seconds: Sequence[float], flops_per_second: float, bytes_per_second: float) -> dict[str, float | str]:
    """Milliseconds of a call, and how near it comes to the two ceilings."""
    bound = point.cost.seconds(flops_per_second, bytes_per_second)
    low, high = np.quantile(seconds, (0.05, 0.95))
    return {
        "ms": 1000 * statistics.median(seconds),
        "ms_p05": 1000 * float(low),
        "ms_p95": 1000 * float(high),
        "ms_fastest": 1000 * min(seconds),
        "bound_ms": 1000 * bound,
        "share": bound / min(seconds),
        "flops_per_second": flops_per_second,
        "bytes_per_second": bytes_per_second,
        "limit": "arithmetic" if point.cost.flops / flops_per_second == bound else "memory",
    }


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row per call and run, tidy for :func:`lib.figures.compare.scaling` and ``bars``.

    ``axis``, ``series``, ``passes``, ``value``; ``kept``, the share of the weights, on the sparsity axis; ``ms`` with
    ``ms_p05``, ``ms_p95``, ``ms_fastest``; ``flops``, ``bytes``; ``bound_ms`` and ``share`` of the roofline, ``limit`` that
    it is set by; ``grown`` with ``grown_p05``, ``grown_p95``: time over that of the series' first value, and
    ``flops_grown``; ``seed``, ``precision``, ``threads``, ``device``, ``key``.
    """
    rows = []
    for result in results:
        same = {
            "axis": result.spec["axis"],
            "precision": result.spec["precision"],
            "seed": result.spec["seed"],
            "threads": result.metrics["threads"],
            "device": result.provenance["device"],
            "key": result.key,
        }
        first: dict[tuple[str, str], float] = {}
        for row in result.arrays["rows"]:
            start = first.setdefault((row["series"], row["passes"]), row["flops"])
            rows.append(
                same | row | {"kept": 1 - row["value"] if same["axis"] == "sparsity" else None, "flops_grown": row["flops"] / start}
            )
    return pd.DataFrame(rows)
