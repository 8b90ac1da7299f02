"""The attention chapter's frames and tables: counts of the model of memory, measured times, recall and stories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lib.attention import io_model
from lib.attention.io_model import Traffic
from lib.attention.online import Running
from lib.measure.statistics import percent, times
from lib.runs.results import Results
from lib.studies.attention.names import CALLED
from lib.studies.base.picked import chosen, column

#: What was special about a case in which tiles are compared with the definition.
CASES = {
    "output": "outputs, all cases",
    "gradient": "gradients, all cases",
    "causal": "causal order",
    "padding": "padding",
    "blocks": "blocks left out",
    "groups": "grouped queries",
    "uneven": "sizes that the tile does not divide",
}


def tile_states() -> tuple[list[list[list[float]]], list[list[float]]]:
    """Return the scores of three tiles, two queries by two keys each, and before, between and after them m, l and output."""
    generator = torch.Generator().manual_seed(45)
    q, k, v = (torch.randn(6, 1, generator=generator) for _ in range(3))
    rows = (q @ k.T)[2:4]
    running = [Running.start(q[2:4])]
    for first in (0, 2, 4):
        running.append(running[-1].update(rows[:, first : first + 2], v[first : first + 2]))
    state = [[r.m[0].item(), r.l[0].item(), r.output[0].item()] for r in running]
    return [rows[:, first : first + 2].tolist() for first in (0, 2, 4)], state


def differences(exactness: Results) -> pd.DataFrame:
    """Return a row per kind of case: the largest difference of tiles, of the fused kernel and of rounding alone."""
    rows = [
        (told, *(f"{max(column(exactness, f'{who}_{what}')):.1e}" for who in ("tiled", "sdpa", "rounding")))
        for what, told in CASES.items()
        if column(exactness, f"tiled_{what}")
    ]
    return pd.DataFrame(rows, columns=["", "tiled, ours", "fused (SDPA)", "rounding alone"])


def standard(N: int, d: int) -> Traffic:
    """Return what standard attention computes and moves, forward and backward, for one head."""
    return io_model.standard_forward(N, d) + io_model.standard_backward(N, d)


def flash(N: int, d: int, M: int) -> Traffic:
    """Return what FlashAttention computes and moves, forward and backward, for one head, with fast memory for M numbers."""
    return io_model.flash_forward(N, d, M) + io_model.flash_backward(N, d, M)


def accesses(d: int, lengths: Sequence[int], memories: Sequence[int]) -> pd.DataFrame:
    """Return the ``accesses`` to slow memory by number of ``tokens``, of standard attention and for each fast memory."""
    rows = [("standard", N, standard(N, d).accesses) for N in lengths]
    rows += [(f"FlashAttention, M = {M:,}", N, flash(N, d, M).accesses) for M in memories for N in lengths]
    return pd.DataFrame(rows, columns=["method", "tokens", "accesses"])


def memory_needed(d: int, N: int = 4096) -> float | None:
    """Return the size of fast memory from which FlashAttention moves less."""
    sizes = [2 ** (n / 8) for n in range(8 * 7, 8 * 19)]
    return io_model.crossing(sizes, [standard(N, d).accesses] * len(sizes), [flash(N, d, int(M)).accesses for M in sizes])


def gpt2_medium() -> pd.DataFrame:
    """Return the paper's measurements of GPT-2 medium on an A100 beside the model's counts for a fast memory of 100 KB."""
    exact, tiled = standard(1024, 64), flash(1024, 64, 51_200)
    ours, theirs = (one.times(16 * 64).bytes(2) / 1e9 for one in (exact, tiled))
    rows = [
        ("memory traffic, standard", "40.3 GB", f"{ours:.1f} GB"),
        ("memory traffic, FlashAttention", "4.4 GB", f"{theirs:.1f} GB"),
        ("traffic, ratio", "9.2", f"{ours / theirs:.1f}"),
        ("operations, ratio", f"{66.6 / 75.2:.2f}", f"{exact.flops / tiled.flops:.2f}"),
        ("time, ratio", "5.7", "–"),
    ]
    return pd.DataFrame(rows, columns=["", "the paper, measured", "the model"])


def memory_table(held: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method at the longest length: memory and operations, also over those of standard attention."""
    last = chosen(held, length=held["length"].max()).groupby("method", sort=False)[["peak", "kept", "flops"]].mean()
    base = last.loc["standard"]
    rows = [
        (
            name,
            *(f"{row[what] / 1e6:,.1f} MB ({row[what] / base[what]:.3f})" for what in ("peak", "kept")),
            f"{row['flops'] / 1e9:,.2f} G ({row['flops'] / base['flops']:.3f})",
        )
        for name, row in last.iterrows()
    ]
    return pd.DataFrame(rows, columns=["", "peak", "kept for the backward pass", "operations"])


def speed_ups(timed: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method: how many times as fast as standard attention by length, and in brackets forward alone."""
    both = timed.pivot_table(index="method", columns=["passes", "length"], values="speed_up", sort=False)
    rows = []
    for name, row in both.iterrows():
        if name != "standard":
            lengths = [N for N in sorted(timed["length"].unique()) if ("training", N) in row and not math.isnan(row["training", N])]
            rows.append({"": name} | {f"{N:,}": f"{row['training', N]:.2f} ({row['forward', N]:.2f})" for N in lengths})
    return pd.DataFrame(rows)


def compiled_times(compiled: pd.DataFrame) -> pd.DataFrame:
    """Return a row per engine: milliseconds by pass and length."""
    by = compiled.pivot_table(index="method", columns=["passes", "length"], values="ms", sort=False)
    return pd.DataFrame(
        [
            {"": name}
            | {
                f"{passes}, {N:,} tokens": "–" if math.isnan(row[passes, N]) else f"{row[passes, N]:,.2f} ms"
                for passes, N in sorted(by.columns)
            }
            for name, row in by.iterrows()
        ]
    )


@dataclass(frozen=True)
class Machine:
    """This machine as the model sees it: operations and bytes per second, fast memory in numbers, and the geometry timed on it."""

    rate: float
    bandwidth: float
    itemsize: int
    M: int
    heads: int
    d: int

    @classmethod
    def of(cls, speeds: Results, timing: Results) -> Machine:
        """Return it from measured speeds; fast memory is 1 MiB of a CPU's cache or 100 KB of a GPU."""
        setting, on_gpu = timing[0].spec["setting"], timing[0].provenance["device_type"] == "cuda"
        itemsize = 2 if setting["precision"] == "bf16" else 4
        rate, bandwidth = (float(np.mean(column(speeds, f"{what}_per_second"))) for what in ("flops", "bytes"))
        M = (100_000 if on_gpu else 2**20) // itemsize
        return cls(rate, bandwidth, itemsize, M, setting["heads"] * setting["batch"], setting["head_dim"])

    @property
    def operations_an_access(self) -> float:
        """Return the operations that it makes in the time of one access."""
        return self.rate / self.bandwidth * self.itemsize

    def exact(self, N: int) -> Traffic:
        """Return what standard attention costs, of all heads."""
        return standard(N, self.d).times(self.heads)

    def least(self, timed: pd.DataFrame) -> pd.DataFrame:
        """Return the measured time in ``ms`` by number of ``tokens``, and the least time by the model."""
        measured = chosen(timed, passes="training")
        rows = [
            (CALLED[r["name"]] + ", measured", r["length"], r["ms"]) for _, r in measured.iterrows() if r["name"] in ("standard", "sdpa")
        ]
        for N in sorted(timed["length"].unique()):
            for name, one in (("standard", self.exact(N)), ("fused (SDPA)", flash(N, self.d, self.M).times(self.heads))):
                rows.append((f"{name}, least by the model", N, 1000 * one.seconds(self.rate, self.bandwidth, self.itemsize)))
        return pd.DataFrame(rows, columns=["method", "tokens", "ms"])


def length_told(length: float | None) -> str:
    """Return up to which length standard attention was as fast as the fused one (None: never, infinity: always), in words."""
    if length is None:
        return "Fused attention was faster at every length measured"
    if length == math.inf:
        return "Standard attention was faster at every length measured"
    return f"Standard attention was as fast as the fused one up to about {length:,.0f} tokens"


def step_table(step: Results) -> pd.DataFrame:
    """Return attention's time in one layer, the step's, and attention's share of it, by the definition and fused."""
    told = {"forward": "attention, forward", "attention": "attention, forward and backward", "step": "training step"}
    kinds = ("standard", "fused")
    rows = [
        (name, *(f"{np.mean(column(step, f'{what}_ms_{kind}')):,.2f} ms" for kind in kinds), times(column(step, f"{what}_ratio")))
        for what, name in told.items()
    ]
    rows.append(("attention's share of a step", *(percent(column(step, f"share_{kind}")) for kind in kinds), "–"))
    return pd.DataFrame(rows, columns=["", "by the definition", "fused", "times as fast"])


def tile_sizes(runs: Results) -> pd.DataFrame:
    """Return a row per size of tile: how many there are, time, accesses by the model with fast memory for just such tiles."""
    spec, rows = runs[0].spec, []
    N, setting = spec["length"], spec["setting"]
    for name in spec["names"]:
        size, d = int(name.removeprefix("tile ")), setting["head_dim"]
        moved = io_model.flash_forward(N, d, 4 * d * size).times(setting["heads"] * setting["batch"]).accesses
        ms = np.mean(column(runs, f"ms_{name}"))
        rows.append((f"{size} × {size}", f"{math.ceil(N / size) ** 2:,}", f"{ms:,.1f} ms", f"{moved / 1e6:,.2f} M"))
    return pd.DataFrame(rows, columns=["tile", f"tiles of {N:,} tokens", "time", "accesses, by the model"])
