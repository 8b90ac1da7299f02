"""Sentences below figures: which is best, and whether two differ by more than chance.  Their numbers and their words are computed."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lib.figures.theme import label
from lib.measure.statistics import Estimate, percent, points, student

Spell = Callable[[Estimate], str]


def best(
    frame: pd.DataFrame,
    column: str,
    by: str = "method",
    *,
    what: str = "",
    spell: Spell = percent,
    unit: Spell = points,
    least: bool = False,
) -> str:
    """Return which group of ``by`` has the highest mean of ``column`` and how far ahead of the next one it is.

    ``what``   what the column holds, in words; its name, unless given
    ``spell``  writes a value, ``unit`` a difference; ``least``: the lowest is the best
    Differences are taken seed by seed where both groups have the same seeds.  Returns "" for fewer than two groups.
    """
    means = frame.dropna(subset=[column]).groupby(by, sort=False)[column].mean().sort_values(ascending=least)
    if len(means) < 2:
        return ""
    first, second = means.index[:2]
    gap = difference(frame, column, first, second, by)
    value = spell(student(values(frame, column, first, by)))
    lead = unit(absolute(gap)).removeprefix("+")
    ahead = f"{name(second)} follows, {lead} behind" if beyond_chance(gap) else f"its lead over {spoken(second)}, {lead}, is within chance"
    return f"{name(first)} has the {'lowest' if least else 'highest'} {what or column.replace('_', ' ')}, {value}; {ahead}."


def against(
    frame: pd.DataFrame, column: str, one: str, other: str, by: str = "method", *, spell: Spell = percent, unit: Spell = points
) -> str:
    """Return both values and whether they differ by more than chance; "" where one of the two groups has no values."""
    mine, theirs = values(frame, column, one, by), values(frame, column, other, by)
    if not len(mine) or not len(theirs):
        return ""
    gap = difference(frame, column, one, other, by)
    verdict = f"a difference of {unit(gap)}" if beyond_chance(gap) else f"no difference beyond chance ({unit(gap)})"
    return f"{name(one)} reaches {spell(student(mine))}, {spoken(other)} {spell(student(theirs))}: {verdict}."


def difference(frame: pd.DataFrame, column: str, one: str, other: str, by: str = "method") -> Estimate:
    """Return ``one`` minus ``other``: paired by seed where both have the same seeds, else that of the means (Welch)."""
    sides = [frame[frame[by] == group].dropna(subset=[column]) for group in (one, other)]
    if all("seed" in side and side["seed"].is_unique for side in sides) and set(sides[0]["seed"]) == set(sides[1]["seed"]):
        mine, theirs = (side.set_index("seed")[column] for side in sides)
        return student(mine - theirs.loc[mine.index])
    mine, theirs = (student(side[column]) for side in sides)
    mean, n = mine.mean - theirs.mean, min(mine.n, theirs.n)
    if mine.half_width is None or theirs.half_width is None:
        return Estimate(mean, None, None, n)
    half = (mine.half_width**2 + theirs.half_width**2) ** 0.5
    return Estimate(mean, mean - half, mean + half, n)


def beyond_chance(estimate: Estimate) -> bool:
    """Return whether the interval lies on one side of zero; never without an interval."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


def absolute(estimate: Estimate) -> Estimate:
    """Return the estimate with its sign taken off, for a sentence that says the direction in words."""
    if estimate.mean >= 0:
        return estimate
    return Estimate(
        -estimate.mean, None if estimate.high is None else -estimate.high, None if estimate.low is None else -estimate.low, estimate.n
    )


def values(frame: pd.DataFrame, column: str, group: str, by: str = "method") -> pd.Series:
    return frame.loc[frame[by] == group, column].dropna()


def name(group: object) -> str:
    """Return a group's name at the beginning of a sentence, as figures write it."""
    text = label(str(group))
    return text[:1].upper() + text[1:] + "," * (", " in text)


def spoken(group: object) -> str:
    """Return a group's name within a sentence: a plain word begins with a small letter, a name does not."""
    text = label(str(group))
    head = text.split(" ")[0].rstrip(",")
    return text[:1].lower() + text[1:] if head[1:].islower() and head.lower() in PLAIN else text


#: First words of names that are plain words.
PLAIN = {
    "dense",
    "hash",
    "random",
    "whole",
    "expert",
    "elastic",
    "growth",
    "pruning",
    "distillation",
    "attention",
    "early",
    "combined",
    "loss-free",
}
