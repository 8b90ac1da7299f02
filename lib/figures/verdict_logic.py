"""How an interval becomes a verdict: five cases in one picture."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from lib.claims.verdict import COLOURS, Bound, decide
from lib.figures.theme import INK, canvas, listed
from lib.measure.statistics import Estimate

#: Intervals of a claim that asks for 1 at least, where 0 means no effect; the last has a precondition that fails.
CASES = ((1.15, 1.75), (0.25, 0.8), (-0.45, 0.35), (0.55, 1.45), None)

#: The paper's figure and no effect on the axis.
FIGURE, NO_EFFECT = 1.0, 0.0


def verdict_of(case: tuple[float, float] | None) -> str:
    """The judge's own verdict on a case, so that the picture cannot say anything else."""
    if case is None:
        return "not testable"
    return decide(Estimate(sum(case) / 2, *case, 3), Bound(at_least=FIGURE), NO_EFFECT)


def verdict_logic(cases: Sequence[tuple[float, float] | None] = CASES) -> go.Figure:
    """Intervals against the criterion and against no effect, each with the verdict that it gets."""
    verdicts = [verdict_of(case) for case in cases]
    told = [
        f"{verdict} from {case[0]:g} to {case[1]:g}" if case else f"{verdict} without an interval" for verdict, case in zip(verdicts, cases)
    ]
    alt = f"Intervals on an axis where 0 means no effect and 1 is the paper's figure: {listed(told)}."
    figure = canvas("effect", "", 70 + 42 * len(cases), alt)
    for row, (verdict, case) in enumerate(zip(reversed(verdicts), reversed(cases))):
        if case is None:
            figure.add_annotation(
                x=(FIGURE + NO_EFFECT) / 2,
                y=row,
                text="a precondition fails: no interval counts",
                showarrow=False,
                font={"size": 12, "color": INK},
            )
            continue
        middle, half = sum(case) / 2, (case[1] - case[0]) / 2
        figure.add_scatter(
            x=[middle],
            y=[row],
            mode="markers",
            name=verdict,
            marker={"color": COLOURS[verdict], "size": 11},
            error_x={"type": "data", "array": [half], "color": COLOURS[verdict], "thickness": 3, "width": 7},
            hovertemplate=f"{verdict}: {case[0]:g} to {case[1]:g}<extra></extra>",
            showlegend=False,
        )
    for value, text in ((NO_EFFECT, "no effect"), (FIGURE, "the paper's figure")):
        figure.add_vline(
            value,
            line={"color": INK, "width": 1, "dash": "dash"},
            annotation={"text": text, "font": {"size": 11}},
            annotation_position="top",
        )
    figure.update_xaxes(tickvals=[], range=[-0.9, 2.1])
    figure.update_yaxes(
        tickvals=list(range(len(cases))), ticktext=list(reversed(verdicts)), range=[-0.6, len(cases) - 0.3], showgrid=False, ticks=""
    )
    return figure
