"""The benchmarks chapter's rows compared with each other: by answers to the same images, by time, and as one would wrongly do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from lib.measure.paired import Difference, crossed, marked, overlapping, paired_bootstrap
from lib.measure.statistics import student
from lib.runs.results import Result
from lib.studies.base.answers import correct_of
from lib.studies.benchmarks.names import frame

#: Counts that are used to predict times, in words.
COUNTS = {
    "flops": "FLOPs as they run",
    "flops_nonzero": "FLOPs without zeros",
    "parameters": "parameters",
    "nonzero": "non-zero parameters",
    "file_bytes": "bytes of the file",
}


def compared(results: Iterable[Result], scale: str) -> pd.DataFrame:
    """:func:`~lib.studies.benchmarks.names.frame` with what each row is, compared with dense networks of its family.

    ``apart``, ``low``, ``high``  test accuracy minus the whole dense network's, and its 95 % interval for seeds and images
                                  (:func:`lib.measure.paired.crossed`); ``against_dense`` marks it "above", "below", "like"
    ``difference``                the same in words
    ``bootstrap_low``, ``bootstrap_high``  of :func:`lib.measure.paired.paired_bootstrap`
    ``overlaps``                  whether the Student intervals of both rows overlap
    ``narrower``, ``against_narrower``     the dense network whose file is no larger and which did best on validation, and the mark
                                  against it; missing where there is none, and for dense networks
    ``verdict``                   ``against_dense`` for the figure; ``covers``, ``images``: what the interval is of
    """
    results = list(results)
    rows = frame(results, scale)
    if rows.empty:
        return rows
    answers = {result.key: correct_of(result.arrays["correct"]) for result in results}
    rows = rows.assign(overlaps=False, images=pd.NA, narrower=None, against_narrower=None)
    for family in rows["family"].unique():
        part = rows[rows["family"] == family]
        means = part.groupby("name")[["val_accuracy", "file_bytes"]].mean()
        dense_names = set(part.loc[part["method"] == "dense", "name"])
        for name in means.index:
            here = (rows["family"] == family) & (rows["name"] == name)
            found = against(part, name, "dense", answers)
            if found is None:
                continue
            rows.loc[here, ["apart", "low", "high"]] = [found.mean, found.low, found.high]
            rows.loc[here, ["against_dense", "verdict", "difference", "covers"]] = [
                *(["–"] * 3 if name == "dense" else [marked(found), marked(found), spelled(found)]),
                found.covers,
            ]
            drawn = against(part, name, "dense", answers, paired_bootstrap)
            rows.loc[here, ["bootstrap_low", "bootstrap_high", "images"]] = [drawn.low, drawn.high, found.images]
            rows.loc[here, "overlaps"] = overlapping(*(student(part.loc[part["name"] == one, "test_accuracy"]) for one in (name, "dense")))
            # In the rows' order, so that of two that are as good the same one is taken each time.
            dense = [one for one in means.index if one in dense_names]
            smaller = means.loc[[one for one in dense if means.loc[one, "file_bytes"] <= means.loc[name, "file_bytes"]]]
            if name not in dense_names and len(smaller):
                rival = smaller["val_accuracy"].idxmax()
                beaten = against(part, name, rival, answers)
                if beaten is not None:
                    rows.loc[here, ["narrower", "against_narrower"]] = [rival, marked(beaten)]
    return rows.astype({"images": "Int64"})


def against(part: pd.DataFrame, name: str, other: str, answers: Mapping[str, np.ndarray], interval=crossed) -> Difference | None:
    """Two rows' difference by the seeds that both have; None where they share none."""
    sides = [part[part["name"] == one].set_index("seed")["key"] for one in (name, other)]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if not seeds:
        return None
    return interval(*(np.stack([answers[side[seed]] for seed in seeds]) for side in sides))


def spelled(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def wide(times: pd.DataFrame) -> pd.DataFrame:
    """Times of one image and of the larger batch side by side: one row per ``key``, with the batch's peak of memory."""
    one, many = times[times["batch"] == times["batch"].min()], times[times["batch"] == times["batch"].max()]
    return (
        one.set_index("key")[["mean_ms"]]
        .rename(columns={"mean_ms": "ms_1"})
        .join(many.set_index("key")[["ms", "peak_bytes"]].rename(columns={"ms": "ms_many"}))
        .reset_index()
    )


def side_by_side(times: pd.DataFrame) -> pd.DataFrame:
    """A table of one family's times: a row per network, and per batch median and p95, ratio to dense, rate; and memory."""
    cells = {}
    for batch, part in times.groupby("batch"):
        for row in part.itertuples():
            cell = cells.setdefault(row.name, {"name": row.name})
            cell[f"ms, batch {batch} (p95)"] = f"{row.ms:.3g} ({row.p95_ms:.3g})"
            cell[f"time over dense, {batch}"] = f"{over_dense(row):.2f}"
            cell[f"images/s, {batch}"] = f"{row.images_per_second:,.0f}"
            cell["peak, largest batch"] = f"{row.peak_bytes / 2**20:.1f} MiB" if pd.notna(row.peak_bytes) else "–"
    return pd.DataFrame(list(cells.values()))


def over_dense(row) -> float:
    """Time over the dense network's: median within rounds, or, where images leave early, of the means over images."""
    return row.mean_ratio if row.form == "early exits" and row.batch == 1 else row.ratio


def relative(rows: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Each timed network's counts and times over those of its family's dense one: ``family``, ``name``, ``method``, ``batch``,
    ``time`` and the columns of :data:`COUNTS`."""
    timed = times.assign(time=[over_dense(row) for row in times.itertuples()])
    joined = timed[["key", "batch", "time"]].merge(rows[["key", "family", "name", "method", *COUNTS]], on="key")
    dense = joined[joined["name"] == "dense"].set_index(["family", "batch"])
    found = joined.copy()
    for column in COUNTS:
        found[column] = [
            value / dense.loc[(family, batch), column] for value, family, batch in zip(joined[column], joined["family"], joined["batch"])
        ]
    return found


def rank_agreement(rows: pd.DataFrame, times: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Kendall's τ between each count and the times, all networks of both families over their dense ones, by batch."""
    found = relative(rows, times)
    return {
        words: {int(batch): float(stats.kendalltau(part[column], part["time"]).statistic) for batch, part in found.groupby("batch")}
        for column, words in COUNTS.items()
    }


def largest(grown: pd.DataFrame) -> pd.DataFrame:
    """A table of the largest size of each series in :func:`lib.studies.benchmarks.scaling.frame`."""
    last = grown.groupby(["axis", "series", "passes"], sort=False).tail(1)
    return pd.DataFrame(
        [
            {
                "axis": row.axis,
                "what": row.series,
                "pass": row.passes,
                "size": f"{row.value:g}",
                "ms": f"{row.ms_fastest:.3g}",
                "least": f"{row.bound_ms:.3g}",
                "limit": row.limit,
                "share": f"{row.share:.0%}",
            }
            for row in last.itertuples()
        ]
    )


# Comparisons as they should not be made


def weak_baseline(rows: pd.DataFrame, halves: pd.DataFrame) -> tuple[int, int, int]:
    """Rows that are made from a dense network, and how many of these are on average at least as accurate as what they were made
    from, which had half of the budget, and as the dense network that had all of it."""
    made = rows[~rows["method"].isin(["dense", "switch", "ewa", "growth", "elastic"])]
    means = made.groupby(["family", "name"])["test_accuracy"].mean().reset_index()
    start = halves.groupby("family")["test_accuracy"].mean()
    whole = rows[rows["name"] == "dense"].groupby("family")["test_accuracy"].mean()
    return (len(means), *(int((means["test_accuracy"] >= means["family"].map(level)).sum()) for level in (start, whole)))


def one_seed(rows: pd.DataFrame) -> float | None:
    """Share of pairs of a family's rows, and of pairs of their seeds, in which the one that is better on average is not better.

    None for a single seed.
    """
    wrong = total = 0
    for _, part in rows.groupby("family"):
        table = part.pivot_table(index="name", columns="seed", values="test_accuracy").dropna()
        if table.shape[1] < 2:
            return None
        values = table.to_numpy()
        for first in range(len(values)):
            for second in range(first):
                apart = values[first].mean() - values[second].mean()
                if apart:
                    each = (values[first][:, None] - values[second][None, :]) * np.sign(apart)
                    wrong, total = wrong + (each <= 0).sum(), total + each.size
    return wrong / total if total else None
