"""Comparisons: methods side by side, against size, against cost."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lib.figures.axes import decades, within
from lib.figures.theme import INK, canvas, listed, rounded, short_number, styles, tick, wrapped
from lib.measure.statistics import Estimate, student
from lib.system.checks import require


def estimates(frame: pd.DataFrame, value: str, by: str | list[str]) -> dict:
    """Mean and 95 % interval of ``value`` per group, in order of appearance; groups without values are left out."""
    kept = frame.dropna(subset=[value])
    if kept.empty:
        raise ValueError(f"no values of {value!r} to draw; say what is missing with lib.book.page.missing(results)")
    return {name: student(part[value]) for name, part in kept.groupby(by, sort=False)}


def told(estimate: Estimate, format: str) -> str:
    spread = (
        "" if estimate.low is None else (f", 95 % interval {short_number(estimate.low, format)} to {short_number(estimate.high, format)}")
    )
    return f"{short_number(estimate.mean, format)}{spread} (n={estimate.n})"


def whiskers(found: list[Estimate]) -> dict:
    """Plotly's error bars; none at all where no estimate has an interval: of length zero they are drawn as a cap."""
    lengths = rounded([e.half_width for e in found])
    return {"type": "data", "array": lengths, "visible": any(lengths), "thickness": 1.5, "width": 5}


def dots(frame: pd.DataFrame, value: str, by: str, *, title: str | None = None, format: str = "", sort: bool = True) -> go.Figure:
    """One row per method: each seed a faint dot, the mean a solid mark with its 95 % interval.

    sort: the highest on top; otherwise in order of appearance.
    """
    found = estimates(frame, value, by)
    looks = styles(found)
    order = sorted(found, key=lambda name: -found[name].mean) if sort else list(found)
    title = title or value
    alt = f"{title} by {by}, mean with 95 % interval: {listed([f'{looks[name].label} {told(found[name], format)}' for name in order])}."
    names = {name: wrapped(looks[name].label) for name in order}
    lines = max(name.count("<br>") + 1 for name in names.values())
    figure = canvas(title, "", 70 + max(36, 17 * lines) * len(order), alt)
    for row, name in enumerate(reversed(order)):
        seeds = frame.loc[frame[by] == name, value].dropna()
        look, estimate = looks[name], found[name]
        figure.add_scatter(  # the seeds just below their mean, where its mark does not hide them
            x=rounded(seeds),
            y=[row - 0.28] * len(seeds),
            mode="markers",
            opacity=0.45,
            name=f"{look.label}, seeds",
            marker={"color": look.colour, "size": 6},
            hovertemplate=f"{look.label}, one seed: %{{x:{format or '.4~g'}}}<extra></extra>",
        )
        figure.add_scatter(
            x=rounded([estimate.mean]),
            y=[row],
            mode="markers",
            name=look.label,
            error_x=whiskers([estimate]) | {"color": look.colour},
            marker={"color": look.colour, "symbol": look.symbol, "size": 12},
            hovertemplate=f"{look.label}<br>{told(estimate, format)}<extra></extra>",
        )
    figure.update_xaxes(tickformat=tick(format), **within(found.values(), format))
    figure.update_yaxes(
        tickvals=list(range(len(order))), range=[-0.7, len(order) - 0.5], ticktext=[names[name] for name in reversed(order)]
    )
    return figure


def scaling(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    *,
    x_title: str | None = None,
    y_title: str | None = None,
    format: str = "",
    baseline: float | None = None,
    log_y: bool = False,
) -> go.Figure:
    """Mean and 95 % interval against a size on a logarithmic axis, ticked at the sizes measured.

    baseline: a level to compare with, drawn as a line: 1 for ratios to the dense model.
    """
    found = estimates(frame, y, [by, x])
    names = list(dict.fromkeys(name for name, _ in found))
    looks = styles(names)
    x_title, y_title = x_title or x, y_title or y
    sizes = sorted({size for _, size in found})
    ends = [f"{looks[name].label} {short_number(found[name, max(s for n, s in found if n == name)].mean, format)}" for name in names]
    alt = (
        f"Lines of {y_title} against {x_title} from {short_number(sizes[0])} to {short_number(sizes[-1])}. At the largest: {listed(ends)}."
    )
    figure = canvas(x_title, y_title, 360, alt, len(names))
    for name in names:
        look = looks[name]
        mine = sorted(size for n, size in found if n == name)
        line = [found[name, size] for size in mine]
        figure.add_scatter(
            x=mine,
            y=rounded([e.mean for e in line]),
            error_y=whiskers(line) | {"color": look.colour},
            name=look.label,
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 9},
            text=[told(e, format) for e in line],
            hovertemplate=f"{look.label}<br>{x_title} %{{x}}: %{{text}}<extra></extra>",
        )
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[size_told(size) for size in sizes], minor={"ticks": ""})
    heights = decades([e.mean for e in found.values()], tick(format)) if log_y else within(found.values(), format)
    figure.update_yaxes({"tickformat": tick(format)} | heights)
    if baseline is not None:
        figure.add_hline(baseline, line={"color": INK, "width": 1, "dash": "dash"})
    return figure


def size_told(size: float) -> str:
    """Whole numbers as people write them: 2,048 and not 2.05e+03."""
    return f"{size:,.0f}" if 1000 <= size < 1e6 and float(size).is_integer() else short_number(size)


def pareto(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    *,
    x_title: str | None = None,
    y_title: str | None = None,
    format: str = "",
    hover: str = "key",
    log_x: bool = False,
    x_better: str | None = "less",
    y_better: str | None = "more",
) -> go.Figure:
    """Every result as a point, quality against cost, with the frontier of those no other beats on both.

    ``x_better``, ``y_better``  whether "less" or "more" of it is better; None where neither is, as for a prediction against what
                  came true: then there is no frontier
    ``hover``     a column to show at each point, such as the Spec's key or the command that runs it again

    Raises ValueError for another direction, and for nothing to draw.
    """
    for name, better in (("x_better", x_better), ("y_better", y_better)):
        require(better in ("less", "more", None), f"{name} is {better!r}: say 'less', 'more', or None for neither")
    kept = frame.dropna(subset=[x, y])
    if kept.empty:
        raise ValueError(f"no values of {x!r} and {y!r} to draw; say what is missing with lib.book.page.missing(results)")
    names = list(dict.fromkeys(kept[by]))
    looks = styles(names)
    x_title, y_title = x_title or x, y_title or y
    alt = f"Points of {y_title} against {x_title} for {len(names)} configurations."
    figure = canvas(x_title, y_title, 400, alt, len(names))
    if x_better and y_better:
        front = frontier(kept, x, y, x_better, y_better)
        best = list(dict.fromkeys(looks[name].label for name in front[by]))
        figure.layout.meta = {"alt": f"{alt} On the frontier, with {x_better} of the first and {y_better} of the second: {listed(best)}."}
        figure.add_scatter(
            x=rounded(front[x]),
            y=rounded(front[y]),
            mode="lines",
            name="frontier",
            hoverinfo="skip",
            line={"color": INK, "width": 1, "dash": "dot", "shape": "hv"},
            showlegend=False,
        )
    for name in names:
        part, look = kept[kept[by] == name], looks[name]
        figure.add_scatter(
            x=rounded(part[x]),
            y=rounded(part[y]),
            mode="markers",
            name=look.label,
            customdata=[str(value) for value in part[hover]],
            marker={"color": look.colour, "symbol": look.symbol, "size": 10, "opacity": 0.85},
            hovertemplate=f"{look.label}<br>{x_title} %{{x:.4~g}}<br>{y_title} %{{y:{format or '.4~g'}}}<br>%{{customdata}}<extra></extra>",
        )
    figure.update_xaxes(decades(kept[x]) if log_x else {})
    figure.update_yaxes(tickformat=tick(format))
    return figure


def frontier(frame: pd.DataFrame, x: str, y: str, x_better: str = "less", y_better: str = "more") -> pd.DataFrame:
    """Rows that no other row beats in both, from the best ``x`` to the worst; of which "less" or "more" is better."""
    ordered = frame.sort_values([x, y], ascending=[x_better == "less", y_better == "less"])
    quality = ordered[y] if y_better == "more" else -ordered[y]
    return ordered[quality > quality.cummax().shift(fill_value=float("-inf"))]


def bars(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: str,
    *,
    x_title: str | None = None,
    y_title: str | None = None,
    format: str = "",
    baseline: float | None = None,
) -> go.Figure:
    """Grouped bars of the mean with its 95 % interval: one group per ``x``, one bar in it per ``by``."""
    found = estimates(frame, y, [by, x])
    names = list(dict.fromkeys(name for name, _ in found))
    places = list(dict.fromkeys(place for _, place in found))
    looks = styles(names)
    x_title, y_title = x_title or x, y_title or y
    told_bars = [f"{looks[name].label} at {place} {short_number(e.mean, format)}" for (name, place), e in found.items()]
    alt = f"Bars of {y_title} by {x_title}: {listed(told_bars[:12])}{' and more' if len(told_bars) > 12 else ''}."
    figure = canvas(x_title, y_title, 360, alt, len(names))
    for name in names:
        look = looks[name]
        here = [place for place in places if (name, place) in found]
        line = [found[name, place] for place in here]
        figure.add_bar(
            x=[str(place) for place in here],
            y=rounded([e.mean for e in line]),
            name=look.label,
            error_y=whiskers(line) | {"color": INK},
            marker={"color": look.colour, "pattern": {"shape": look.hatch}},
            text=[told(e, format) for e in line],
            textposition="none",
            hovertemplate=f"{look.label}<br>{x_title} %{{x}}: %{{text}}<extra></extra>",
        )
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=[str(place) for place in places])
    figure.update_yaxes(tickformat=tick(format), **within(found.values(), format))
    if baseline is not None:
        figure.add_hline(baseline, line={"color": INK, "width": 1, "dash": "dash"})
    return figure
