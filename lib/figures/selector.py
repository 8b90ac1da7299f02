"""Several figures of the same runs as one, with a menu that chooses which is shown."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from lib.figures.theme import CLEAR, INK
from lib.system.checks import require

#: Pixels above the plot for the menu; the rendered book puts an HTML one in its place.
MENU = 74


def selector(figures: Mapping[str, go.Figure], name: str = "Show") -> go.Figure:
    """The first figure, and a menu of all by their names: traces and the title of the y axis change, the rest is the first's.

    ``name``  what the menu chooses, in a word
    Raises ValueError for no figures.
    """
    require(figures, "no figures to choose from")
    first, *_ = figures.values()
    joined = go.Figure(layout=first.layout)
    owners = [title for title, figure in figures.items() for _ in figure.data]
    for title, figure in figures.items():
        joined.add_traces([trace.update(visible=title == owners[0]) for trace in figure.data])
    buttons = [
        {
            "method": "update",
            "label": title,
            "args": [{"visible": [owner == title for owner in owners]}, {"yaxis.title.text": figure.layout.yaxis.title.text or ""}],
        }
        for title, figure in figures.items()
    ]
    menu = {"type": "dropdown", "name": name, "showactive": True, "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    menu |= {"pad": {"b": 6}, "bgcolor": CLEAR, "bordercolor": INK, "font": {"color": INK}, "buttons": buttons}
    alt = " ".join(f"{title}: {(figure.layout.meta or {}).get('alt', '')}" for title, figure in figures.items())
    margin = (joined.layout.margin.t or 34) + MENU - 34
    return joined.update_layout(
        updatemenus=[menu], margin={"t": margin}, height=(joined.layout.height or 420) + MENU - 34, meta={"alt": f"A menu chooses. {alt}"}
    )
