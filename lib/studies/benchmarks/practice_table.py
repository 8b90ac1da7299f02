"""The benchmarks chapter's first regime as frames: what each method costs and gives, and the answer to what a reader wants."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.measure.paired import Difference, crossed
from lib.runs.results import Result
from lib.studies.base.answers import correct_of
from lib.studies.benchmarks.practice_names import KINDS, called, dense, kind, shape, timed_shape
from lib.studies.benchmarks.task import TRAINING

#: The row that all others are compared with: the trained network as it is.
WHOLE = "as it is, 32 bits"

#: The control of every method that trains: the network after the same further training, without compression.
TUNED = "trained on, 16 bits"

#: Metrics of which a method's row has the mean over seeds.
MEANS = [
    "val_accuracy",
    "test_accuracy",
    "file_bytes",
    "smaller",
    "parameters",
    "flops",
    "flops_nonzero",
    "training",
    "steps",
    "val_before",
]


def runs(results: Iterable[Result], scale: str) -> pd.DataFrame:
    """Return a row per run: ``name``, ``kind``, ``seed``, ``key``, ``command`` and the metrics; ``smaller`` than the file in 32 bits
    (times) and ``training``, its compute over that of the trained network's own training."""
    results = list(results)
    found = pd.DataFrame(
        [
            {
                "name": called(result.spec),
                "kind": kind(result.spec),
                "seed": result.spec["seed"],
                "key": result.key,
                "command": f"python -m lib run benchmarks --scale {scale} --key {result.key}",
                **result.metrics,
            }
            for result in results
        ]
    )
    if found.empty or WHOLE not in set(found["name"]):
        return found
    whole = found[found["name"] == WHOLE]
    own = pd.Series([own_training(result) for result in results]) * TRAINING * whole["flops"].mean()
    return found.assign(smaller=whole["file_bytes"].mean() / found["file_bytes"], training=found["train_flops"] / own)


def own_training(result: Result) -> int:
    """Return the images that the trained network had seen, counted with repetition."""
    recipe, images = dense(result.spec)["recipe"], result.provenance["data"]["train"]
    batch = min(recipe["batch_size"], images)
    return recipe["epochs"] * (images // batch * batch)


def time_ratios(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per network and batch that was timed: ``shape``, ``batch``, ``ms``, ``p95_ms``, ``ratio`` with its percentiles."""
    return pd.DataFrame(
        [
            {"shape": timed_shape(result.spec["networks"][row["position"]]), **row, "threads": result.metrics["threads"]}
            for result in results
            for row in result.arrays["rows"]
        ]
    )


def methods(results: Iterable[Result], scale: str, times: pd.DataFrame) -> pd.DataFrame:
    """Return a row per method that has a run: its means over seeds, and how far it is from the trained network.

    ``val_apart``                 validation accuracy minus that of :data:`WHOLE`, mean over the seeds that both have
    ``apart``, ``low``, ``high``  test accuracy minus that of :data:`WHOLE`, both answering the same images, and its 95 %
                                  interval for seeds and images (:func:`lib.measure.paired.crossed`); ``seeds`` behind it
    ``ratio_1``, ``ratio_many``   time over that of the trained network for one image and for the largest batch; missing
                                  where no such network was timed.  ``same_work``: whether it is computed as before
    times: :func:`time_ratios`.  Without a run of the trained network the frame is empty.
    """
    results = list(results)
    rows = runs(results, scale)
    if rows.empty or "smaller" not in rows:
        return pd.DataFrame()
    specs = {called(result.spec): result.spec for result in results}
    answers = answers_by_name(results)
    found = []
    whole = rows[rows["name"] == WHOLE].set_index("seed")["val_accuracy"]
    for name, part in rows.groupby("name", sort=False):
        apart = against(answers[name], answers[WHOLE])
        if apart is not None:
            found.append(
                {
                    "name": name,
                    "kind": part["kind"].iloc[0],
                    **part.reindex(columns=MEANS).mean().to_dict(),
                    "seeds": apart.n,
                    "val_apart": (part.set_index("seed")["val_accuracy"] - whole).mean(),
                    "apart": apart.mean,
                    "low": apart.low,
                    "high": apart.high,
                    **ratios(shape(specs[name]), shape(specs[WHOLE]), times),
                }
            )
    order = list(KINDS)
    table = pd.DataFrame(found).assign(place=lambda frame: frame["kind"].map(order.index))
    return table.sort_values(["place", "smaller"], kind="stable", ignore_index=True).drop(columns="place")


def ratios(own: tuple, whole: tuple, times: pd.DataFrame) -> dict[str, float | bool]:
    """Return a network's times over those of the whole one."""
    found: dict[str, float | bool] = {"same_work": own == whole, "ratio_1": np.nan, "ratio_many": np.nan}
    if own == whole:
        return found | {"ratio_1": 1.0, "ratio_many": 1.0}
    if len(times):
        mine = times[times["shape"] == own].set_index("batch")["ratio"]
        if len(mine):
            found |= {"ratio_1": mine[mine.index.min()], "ratio_many": mine[mine.index.max()]}
    return found


def answers_by_name(results: Iterable[Result]) -> dict[str, dict[int, np.ndarray]]:
    """Return which test images each method is right about, by its name and seed."""
    answers: dict[str, dict[int, np.ndarray]] = {}
    for result in results:
        answers.setdefault(called(result.spec), {})[result.spec["seed"]] = correct_of(result.arrays["correct"])
    return answers


def beyond_training(results: Iterable[Result], name: str) -> Difference | None:
    """Return a method's test accuracy minus that of :data:`TUNED`, which has the same further steps; None where one was not run."""
    answers = answers_by_name(results)
    return against(answers[name], answers[TUNED]) if name in answers and TUNED in answers else None


def against(own: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> Difference | None:
    """Return the difference over the seeds that both have; None where there is none."""
    common = sorted(set(own) & set(other))
    return crossed(*(np.stack([side[seed] for seed in common]) for side in (own, other))) if common else None


#: Questions that two methods answer together: the first minus the second.
QUESTIONS = {
    "Do 8-bit products lose what 8-bit weights keep?": ("8-bit integer products", "rounded to 8 bits"),
    "Even steps or chosen values, with 4 bits and no training?": ("rounded to 4 bits", "4-bit codebooks, not trained"),
    "Does training the codebooks help?": ("4-bit codebooks", "4-bit codebooks, not trained"),
    "Fewer weights or fewer bits, in files of about a size?": ("pruned to 1/8", "2-bit codebooks"),
    "Free places or two of each four?": ("pruned to 1/2", "pruned 2:4"),
    "Fewer channels or factors, at four times fewer weights?": ("channels, 4× fewer weights", "low rank, 4× fewer weights"),
    "The trained network's channels or its answers?": ("channels, 4× fewer weights", "distilled, 4× fewer weights"),
    "Do its answers teach more than the labels alone?": ("distilled, 4× fewer weights", "labels alone, 4× fewer weights"),
}


def pairs(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per question of :data:`QUESTIONS` that can be answered: ``question``, ``first``, ``second``, ``difference``.

    The difference is that of test accuracies on the same images, a :class:`lib.measure.paired.Difference`; ``first_bytes`` and
    ``second_bytes`` are those of the files, means over seeds.
    """
    results = list(results)
    answers, sizes = answers_by_name(results), dict[str, list[float]]()
    for result in results:
        sizes.setdefault(called(result.spec), []).append(result.metrics["file_bytes"])
    return pd.DataFrame(
        [
            {
                "question": question,
                "first": first,
                "second": second,
                "difference": difference,
                "first_bytes": np.mean(sizes[first]),
                "second_bytes": np.mean(sizes[second]),
            }
            for question, (first, second) in QUESTIONS.items()
            if first in answers and second in answers and (difference := against(answers[first], answers[second]))
        ]
    )


# What a reader wants

#: What is wanted, and which methods meet it.
WANTS = {
    "4× smaller file, no training": lambda row: row["smaller"] >= 4 and row["steps"] == 0,
    "4× smaller file": lambda row: row["smaller"] >= 4,
    "8× smaller file": lambda row: row["smaller"] >= 8,
    "16× smaller file": lambda row: row["smaller"] >= 16,
    "faster, no training": lambda row: row["ratio_many"] <= 0.9 and row["steps"] == 0,
    "1.5× faster, batches": lambda row: row["ratio_many"] <= 1 / 1.5,
    "2× faster, batches": lambda row: row["ratio_many"] <= 1 / 2,
    "1.5× faster, one image": lambda row: row["ratio_1"] <= 1 / 1.5,
    "2× faster, one image": lambda row: row["ratio_1"] <= 1 / 2,
    "4× smaller and 1.5× faster, batches": lambda row: row["smaller"] >= 4 and row["ratio_many"] <= 1 / 1.5,
}


def answers_to(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each want: of the methods that meet it, the one that loses least on the validation images; of equals,
    the faster one.

    The columns are those of :func:`methods` with ``want`` and ``use`` (when to use it); ``name`` is missing where no method
    that was run meets it.
    """
    if table.empty:
        return pd.DataFrame()
    found = []
    for want, meets in WANTS.items():
        fitting = table[[bool(meets(row)) for _, row in table.iterrows()]]
        # Of those that lose as little the one that is faster.
        ranked = fitting.assign(val_apart=fitting["val_apart"].round(6)).sort_values(["val_apart", "ratio_many"], ascending=[False, True])
        best = ranked.iloc[0].to_dict() if len(ranked) else {}
        found.append({"want": want, **best, "use": KINDS.get(best.get("kind"), "")})
    return pd.DataFrame(found)
