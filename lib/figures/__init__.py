"""Figures of the book: one look, one colour per method, every builder a function from a frame to a figure.

Frames come from ``Results.frame()`` and ``Results.curves()``; ``by`` names the column that tells series apart.
A series is drawn in its method's colour when its name begins with the method's (``switch``,
``switch, capacity 1.25``).  Each figure carries a description of what it shows in ``layout.meta["alt"]``,
written from its data; :func:`lib.book.page.show` displays it with its provenance.
"""

from lib.figures.compare import bars, dots, pareto, scaling
from lib.figures.curves import learning_curves, thin
from lib.figures.maps import heat_map, heat_map_over_time
from lib.figures.theme import COLOURS, METHODS, label, reference_line

__all__ = [
    "COLOURS",
    "METHODS",
    "bars",
    "dots",
    "heat_map",
    "heat_map_over_time",
    "label",
    "learning_curves",
    "pareto",
    "reference_line",
    "scaling",
    "thin",
]
