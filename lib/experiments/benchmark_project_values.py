"""The values behind our column beside the student projects' tables: functions that ``data/projects.yml`` names.

Each takes studies (name → Results) of the table's chapter, and what the row gives it, and returns one number per seed in
the unit's base (accuracies and shares are fractions, parameters are counted one by one), or raises
:class:`lib.statistics.NotTestable` with the reason.
"""

from lib.experiments import (benchmark_project_elastic, benchmark_project_growth,  # noqa: F401  importing them fills VALUES
                             benchmark_project_moe, benchmark_project_pruning)
from lib.experiments.benchmark_project_base import VALUES, Studies

__all__ = ["VALUES", "Studies"]
