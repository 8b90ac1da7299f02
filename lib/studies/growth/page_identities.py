"""What growth must not change: the rows of one table, and a sentence about each of its three parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from lib.runs.results import Result

#: What :class:`lib.studies.growth.checks.CommuteRun` calls its three ways, and what the table does.
WAYS = {
    "as it should be": "moments and rates grown too",
    "fresh moments": "fresh moments",
    "usual rates": "one learning rate for all tensors",
}


def identities(exactness: Sequence[Result], noise: Sequence[Result], commuting: Sequence[Result]) -> pd.DataFrame:
    """Return a row per comparison of a network with what grew from it: what is compared, how, and by how much it differs at most.

    A study without results has no rows.
    """
    rows: list[tuple[str, str, str]] = []
    for run in exactness:
        kinds, (least, most) = f"{run.metrics['variants']} kinds of network", changes_of_inexact(run)
        rows += [
            ("logits, by operators that claim to be exact", f"{kinds}, double precision", spelled(run.metrics["worst_double"])),
            ("the same, over the logits' standard deviation", f"{kinds}, single precision", spelled(run.metrics["worst_single"])),
            ("logits, by operators that do not", f"{kinds}, double precision", f"{spelled(least)} to {spelled(most)}"),
        ]
    if noise:
        quiet, loud, times = by_noise(noise)
        what = "logits at twice the width, over their standard deviation"
        rows += [
            (what, "copies differ by at most the weights' size", spelled(quiet)),
            (what, f"copies differ by {times:.0f} times the weights' size", spelled(loud)),
        ]
    if commuting:
        rows += [(f"losses over {steps(commuting)} steps, nats", WAYS[way], spelled(apart)) for way, apart in by_way(commuting).items()]
    return pd.DataFrame(rows, columns=["what is compared", "how", "differs by at most"])


def of_noise(noise: Sequence[Result]) -> str:
    """Return the sentence about a trained network at twice its width, by how much its copies differ; "" for no results."""
    if not noise:
        return ""
    quiet, loud, times = by_noise(noise)
    return f"""Made twice as wide in single precision, a trained network moves its logits by at most {spelled(quiet)} of their standard deviation while the
        copies differ by no more than the size of the weights, and by {spelled(loud)} of it where they differ by {times:.0f} times that."""


def of_commuting(commuting: Sequence[Result]) -> str:
    """Return the sentence about a small network and the one that grew from it, trained side by side; "" for no results."""
    if not commuting:
        return ""
    apart = {WAYS[way]: spelled(most) for way, most in by_way(commuting).items()}
    kept, *others = apart.items()
    return f"""Trained on the same text for {steps(commuting)} steps, a small network and the one of twice its width that grew from it (equal copies, double
        precision, no clipping) have losses that differ by at most {kept[1]} nats with {kept[0]}; with {" and with ".join(f"{way} by up to {most}" for way, most in others)}."""


def changes_of_inexact(run: Result) -> tuple[float, float]:
    """Return the least and the most of what operators that do not claim to be exact change, each at its worst network."""
    worst = [max(row) for row, claimed in zip(run.arrays["double"], run.arrays["claimed"]) if not claimed]
    return min(worst), max(worst)


def by_noise(noise: Iterable[Result]) -> tuple[float, float, float]:
    """Return the largest change with noise up to 0 dB, that with the loudest noise, and how many times the weights' size it has."""
    changes = [(-quieter, error) for run in noise for quieter, error in zip(run.arrays["decibels"], run.arrays["noise"])]
    loudest = max(louder for louder, _ in changes)
    quiet = max(error for louder, error in changes if louder <= 0)
    return quiet, max(error for louder, error in changes if louder == loudest), 10 ** (loudest / 20)


def by_way(commuting: Iterable[Result]) -> dict[str, float]:
    """Return the largest difference of the two losses for each of :data:`WAYS`."""
    runs = list(commuting)
    return {way: max(max(run.arrays["differences"][way]) for run in runs) for way in WAYS}


def steps(commuting: Sequence[Result]) -> int:
    """Return how many steps the two networks were trained side by side."""
    return commuting[0].spec["after"]


def spelled(value: float) -> str:
    """Return ``"2e-14"`` where a value is of rounding, ``"0.077"`` where it is not."""
    return f"{value:.0e}" if value < 1e-3 else f"{value:.2g}"
