"""The values behind our column beside the student projects' tables: functions that ``data/projects.yml`` names.

Each takes studies (name → Results) of the table's chapter, and what the row gives it, and returns one number per seed in
the unit's base (accuracies and shares are fractions, parameters are counted one by one), or raises
:class:`lib.measure.statistics.NotTestable` with the reason.
"""

from lib.claims import project_elastic, project_growth, project_moe, project_pruning  # noqa: F401  # pyright: ignore[reportUnusedImport] - importing them fills VALUES
from lib.claims.project_base import VALUES, Studies

__all__ = ["VALUES", "Studies"]
