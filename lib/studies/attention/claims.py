"""The values behind the attention chapter's claims that ``data/claims.yml`` reads by a function, one value per seed.

Each takes the studies that its claim names (study → Results) and returns numbers in the claim's unit, or
raises :class:`lib.measure.statistics.NotTestable` with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.attention.io_model import crossing
from lib.measure.statistics import NotTestable, why
from lib.runs.results import Results
from lib.studies.attention.names import memories, timings

Studies = Mapping[str, Results]

#: Lengths over which the paper compares exact attention, and the one of its largest difference in memory.
USUAL, LONG = (128, 2048), 4096

#: GPT-2's context and head size, with which its attention is timed.
GPT2 = (1024, 64)


def by_seed(table: pd.DataFrame, results: Results, what: str) -> list[pd.DataFrame]:
    """The table's rows of each seed; :class:`NotTestable` where there are none."""
    if table.empty:
        raise NotTestable(f"{what}{why(results)}")
    return [part for _, part in table.groupby("seed")]


def chosen(table: pd.DataFrame, **fields) -> pd.DataFrame:
    for name, value in fields.items():
        table = table[table[name] == value] if len(table) else table
    return table


# Exactness and memory


def largest_difference(studies: Studies) -> list[float]:
    return [max(r.metrics["tiled_output"], r.metrics["tiled_gradient"]) for r in studies["exactness"]]


def memory_exponent(studies: Studies) -> list[float]:
    """The larger of two slopes: of log peak bytes against log length, of ours and of the fused attention, over the longer half."""
    found = []
    for part in by_seed(memories(studies["memory"]), studies["memory"], "no memory was measured"):
        lengths = sorted(part["length"].unique())
        if lengths[-1] < 1024:
            raise NotTestable("at fewer than 1,024 tokens, what does not grow with the length counts too")
        upper = part[part["length"] >= lengths[len(lengths) // 2]]
        found.append(
            max(
                float(np.polyfit(np.log2(mine["length"]), np.log2(mine["peak"].astype(float)), 1)[0])
                for name, mine in upper.groupby("name")
                if name in ("tiled", "sdpa")
            )
        )
    return found


def memory_saved(studies: Studies) -> list[float]:
    table = chosen(memories(studies["memory"]), length=LONG)
    return [
        peak_of(part, "standard") / peak_of(part, "sdpa")
        for part in by_seed(table, studies["memory"], f"memory was not measured at {LONG:,} tokens, as the paper's comparison is")
    ]


def peak_of(part: pd.DataFrame, name: str) -> float:
    return float(part.loc[part["name"] == name, "peak"].iloc[0])


# Speed


def more_operations(studies: Studies) -> list[float]:
    found = []
    for part in by_seed(memories(studies["memory"]), studies["memory"], "no operations were counted"):
        last = part[part["length"] == part["length"].max()].set_index("name")["flops"]
        found.append(float(last["tiled"] / last["standard"]))
    return found


def fused_speed_up(studies: Studies) -> list[float]:
    """Geometric mean over the usual lengths of the time of standard attention over that of the fused one."""
    table = chosen(timings(studies["timing"]), passes="training", name="sdpa")
    if len(table) and table["length"].max() < USUAL[1]:
        raise NotTestable(f"nothing was timed up to {USUAL[1]:,} tokens")
    table = table[table["length"].between(*USUAL)] if len(table) else table
    return [math.exp(np.log(part["speed_up"]).mean()) for part in by_seed(table, studies["timing"], "nothing was timed")]


def sparse_speed_up(studies: Studies) -> list[float]:
    """Time of the fused exact attention over that of our block-sparse one at the longest length.

    Against our own tiled attention two Python loops would be compared, which nobody would use.
    """
    table = timings(studies["timing"])
    if len(table):
        table = table[(table["passes"] == "training") & (table["length"] == table["length"].max())]
    found = []
    for part in by_seed(table, studies["timing"], "nothing was timed"):
        ms, share = (part.set_index("name")[what] for what in ("ms", "share"))
        if share["block-sparse"] > 0.5:
            raise NotTestable(
                f"at {part['length'].max()} tokens the pattern keeps {share['block-sparse']:.0%} of the blocks: sequences are too short for it"
            )
        found.append(float(ms["sdpa"] / ms["block-sparse"]))
    return found


def sparsity_exponent(studies: Studies) -> list[float]:
    """Slope of log time against the log of the share of blocks that is computed."""
    table = timings(studies["sparsity"])
    if len(table) and table["length"].max() < 1024:
        raise NotTestable("sequences of fewer than 1,024 tokens have too few blocks")
    return [
        float(np.polyfit(np.log(part["share"]), np.log(part["ms"]), 1)[0])
        for part in by_seed(table, studies["sparsity"], "nothing was timed")
    ]


def approximate_crossing(studies: Studies) -> list[float]:
    """The length up to which fused exact attention is faster than Linformer and Performer.

    The longest timed if it always is, and the shortest if it never is: beyond both ends nothing was timed.
    """
    table = chosen(timings(studies["timing"]), passes="training")
    if len(table) and table["length"].max() < 1024:
        raise NotTestable("nothing was timed at 1,024 tokens, where the paper finds the crossing")
    found = []
    for part in by_seed(table, studies["timing"], "nothing was timed"):
        ms = part.pivot(index="length", columns="name", values="ms").dropna(subset=["sdpa", "linformer", "performer"])
        lengths = ms.index.tolist()
        at = crossing(lengths, ms["sdpa"].tolist(), ms[["linformer", "performer"]].min(axis=1).tolist())
        found.append(float(lengths[0] if at is None else min(at, lengths[-1])))
    return found


def at_gpt2(studies: Studies, metric: str) -> list[float]:
    """A metric of the networks with GPT-2's attention."""
    runs = studies["step"]
    kept = tuple(r for r in runs if (r.spec["config"]["context"], r.spec["config"]["width"] // r.spec["config"]["heads"]) == GPT2)
    if runs and not kept:
        raise NotTestable(f"no network with GPT-2's {GPT2[0]:,} tokens and heads of {GPT2[1]} features was timed")
    return [r.metrics[metric] for r in kept]


# Numbers


def low_precision_error(studies: Studies) -> list[float]:
    """Error of tiled attention in bf16 over that of standard attention in bf16: geometric mean over the spreads of scores."""
    found = []
    for r in studies["stability"]:
        error = {(name, spread): value for name, precision, spread, value, _ in r.arrays["rows"] if precision == "bf16"}
        ratios = [error["tiled", spread] / value for (name, spread), value in error.items() if name == "standard"]
        found.append(math.exp(np.log(ratios).mean()))
    return found


# Context


def recall_above_chance(studies: Studies) -> list[float]:
    whole = [r for r in studies["recall"] if r.spec["context"] == r.spec["task"]["length"]]
    return [r.metrics["accuracy"] - r.metrics["chance"] for r in whole]


def recall_gain(studies: Studies) -> list[float]:
    """Accuracy with the longest context minus that with the shortest, by seed."""
    return [longest.metrics["accuracy"] - shortest.metrics["accuracy"] for shortest, longest in ends(studies["recall"])]


def perplexity_saved(studies: Studies) -> list[float]:
    """How much lower the perplexity is with four times the context: 1 - e^(loss with 4c - loss with c), the longest such pair, by seed."""
    found = []
    for seed in sorted({r.spec["seed"] for r in studies["stories"]}):
        loss = {r.spec["context"]: r.metrics["test_loss"] for r in studies["stories"] if r.spec["seed"] == seed}
        pairs = [context for context in loss if 4 * context in loss]
        if pairs:
            found.append(1 - math.exp(loss[4 * max(pairs)] - loss[max(pairs)]))
    if studies["stories"] and not found:
        raise NotTestable(f"no two networks whose contexts differ by a factor of four{why(studies['stories'])}")
    return found


def ends(runs: Results) -> list[tuple]:
    """The run with the shortest context and that with the longest, of each seed that has several."""
    found = []
    for seed in sorted({r.spec["seed"] for r in runs}):
        mine = sorted((r for r in runs if r.spec["seed"] == seed), key=lambda r: r.spec["context"])
        if len(mine) > 1:
            found.append((mine[0], mine[-1]))
    return found
