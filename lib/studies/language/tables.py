"""The language chapter's tables and sentences: perplexities by model, method and strength."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lib.measure.statistics import student
from lib.studies.base.picked import chosen
from lib.studies.language.names import CALLED, MODELS


def perplexity(frame: pd.DataFrame, **fields) -> float | None:
    """The mean over runs with these values; None where there are none."""
    rows = chosen(frame, **fields)
    return float(rows["perplexity"].mean()) if len(rows) else None


def spelled(value: float | None) -> str:
    """A perplexity as it is printed: three digits, and no more than anybody can use of a broken model's."""
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"


def with_spread(values: Iterable[float]) -> str:
    """Mean ± half of the interval over seeds, where there are three or more of them."""
    found = student(values)
    half = found.half_width
    return spelled(found.mean) + (f" ± {spelled(half)}" if found.n >= 3 and half is not None and found.mean < 1000 else "")


def by_strength(frame: pd.DataFrame, strengths: Iterable[str] | None = None) -> pd.DataFrame:
    """A row for each model and strength, a column for each method, perplexities spelled out."""
    order = ["dense", *CALLED.values()]
    methods, rows = sorted(set(frame["method"]), key=order.index), []
    for model in MODELS:
        for strength in strengths or dict.fromkeys(chosen(frame, model=model)["strength"]):
            part = chosen(frame, model=model, strength=strength)
            if len(part):
                rows.append(
                    {"model": model, "": strength}
                    | {method: with_spread(mine["perplexity"]) if len(mine := chosen(part, method=method)) else "–" for method in methods}
                )
    return pd.DataFrame(rows)


def in_words(frame: pd.DataFrame, methods: Iterable[str], **fields) -> str:
    """ "12.3 by magnitude, 11.2 by Wanda": those methods that were run, in this order."""
    parts = [f"{spelled(value)} by {method}" for method in methods if (value := perplexity(frame, method=method, **fields)) is not None]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def smallest_within(frame: pd.DataFrame, model: str, dense: float, share: float) -> pd.Series | None:
    """Of all methods and strengths of one model, the smallest file whose mean perplexity is at most (1 + share) of the dense one."""
    rows = chosen(frame, model=model)
    if not len(rows):
        return None
    means = rows.groupby(["method", "strength"], sort=False)[["perplexity", "bytes", "bits"]].mean().reset_index()
    good = means[(means["perplexity"] <= (1 + share) * dense) & (means["method"] != "dense")]
    return good.sort_values(["bytes", "perplexity"]).iloc[0] if len(good) else None
