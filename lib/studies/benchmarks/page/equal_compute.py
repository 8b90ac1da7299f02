"""The benchmarks chapter's second regime in words and frames: what each run reaches with the same compute from nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lib.measure.statistics import amount, percent
from lib.runs.results import Result
from lib.studies.benchmarks.names import FAMILIES, name

#: Columns of :func:`lib.studies.benchmarks.compared.compared` as tables call them.
WORDS = {
    "test_accuracy": "test accuracy",
    "nonzero": "non-zero",
    "flops": "FLOPs",
    "flops_nonzero": "FLOPs without zeros",
    "file_bytes": "bytes",
    "train_flops": "training FLOPs",
    "against_dense": "against dense",
    "narrower": "best dense of no larger file",
    "against_narrower": "against that",
}

#: How the name of a chain begins.
START = "elastic, small → "


def mean_amount(values: pd.Series) -> str:
    """Return the mean of a count, to three significant digits."""
    return amount(values.mean())


#: What a network has of its own in the tables, and how it is spelled.
OWN = {"test_accuracy": percent, "nonzero": mean_amount, "flops_nonzero": mean_amount, "file_bytes": mean_amount}


def of(rows: pd.DataFrame, family: str, called: str) -> pd.DataFrame:
    """Return the runs of a family that are called so."""
    return rows[(rows["family"] == family) & (rows["name"] == called)] if len(rows) else rows


def best_below(rows: pd.DataFrame, family: str, column: str, most: float) -> str | None:
    """Return the name with the highest mean validation accuracy among those that cost at most so much; None for none."""
    found = rows[(rows["family"] == family) & (rows["name"] != "dense")]
    means = found.groupby("name")[["val_accuracy", column]].mean()
    fitting = means[means[column] <= most]
    return fitting["val_accuracy"].idxmax() if len(fitting) else None


def compared_with_dense(rows: pd.DataFrame) -> pd.DataFrame:
    """Return for each name how it compares with the dense network, and with the best dense one of no larger file."""
    return rows.drop_duplicates("name")[["name", "difference", "against_dense", "narrower", "against_narrower"]]


def quarters(rows: pd.DataFrame) -> str:
    """Return for each family the dense network and the best one in a quarter of its file, in words."""
    told = []
    for family, called in FAMILIES.items():
        dense = of(rows, family, "dense")
        winner = best_below(rows, family, "file_bytes", dense["file_bytes"].mean() / 4)
        if winner is not None:
            best = of(rows, family, winner)
            told.append(
                f"the dense {called} has {percent(dense['test_accuracy'])} in a file of {dense['file_bytes'].mean() / 1e3:,.1f} kB, and of "
                f"all that take at most a quarter of that, *{winner}* was best on validation, with {percent(best['test_accuracy'])} "
                f"in {best['file_bytes'].mean() / 1e3:,.1f} kB"
            )
    return "; ".join(told)


def rivals(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many networks are ``above``, ``like`` or ``below`` the best dense network whose file is no larger."""
    found = rows.drop_duplicates(["family", "name"])["against_narrower"].value_counts()
    return {mark: int(found.get(mark, 0)) for mark in ("above", "like", "below")}


def files_told(rows: pd.DataFrame) -> str:
    """Return for each family the files of 4 bits, of a quarter of the weights, and of both, in words."""

    def kilobytes(family: str, called: str) -> str:
        found = of(rows, family, called)
        return f"{found['file_bytes'].mean() / 1e3 if len(found) else float('nan'):,.1f} kB"

    return "; ".join(
        f"for the {called}, 4 bits make a file of {kilobytes(family, '4 bits')} and a quarter of the weights in 16 "
        f"bits one of {kilobytes(family, 'pruned to 1/4')}; both together one of {kilobytes(family, 'pruned to 1/4 → 4 bits')}"
        for family, called in FAMILIES.items()
    )


def drawn_again(unique: pd.DataFrame) -> tuple[float, int, int]:
    """Return how many times as wide the intervals are when images are drawn again, how many rows that marks otherwise, and of how many."""
    drawn = unique.dropna(subset=["bootstrap_low"])
    width = ((drawn["bootstrap_high"] - drawn["bootstrap_low"]) / (drawn["high"] - drawn["low"])).median()
    apart = (drawn["bootstrap_low"] > 0) | (drawn["bootstrap_high"] < 0)
    return width, int((apart != (drawn["against_dense"] != "like")).sum()), len(drawn)


def chains(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of chains."""
    return rows[rows["name"].str.startswith(START)] if len(rows) else rows


def by_stage(results: Iterable[Result]) -> pd.DataFrame:
    """Return a row per chain with its validation accuracy after each stage, mean over seeds; empty without any."""
    found = [
        {"chain": name(result.spec).removeprefix(START), "stage": f"after stage {place + 1}", "accuracy": stage["val_accuracy"]}
        for result in results
        for place, stage in enumerate(result.arrays["stages"])
    ]
    if not found:
        return pd.DataFrame()
    return pd.DataFrame(found).pivot_table(index="chain", columns="stage", values="accuracy", sort=False).reset_index()
