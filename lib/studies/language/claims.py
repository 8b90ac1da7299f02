"""The values behind the language chapter's claims: the functions that ``data/claims.yml`` names.

Each returns, by model, the ratio of two perplexities with its 95 % interval over seeds and test windows: the same windows on both
sides.  A model for which the claim's need does not hold gets the reason instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lib.measure.statistics import Estimate, NotTestable, why
from lib.runs.results import Results
from lib.studies.language import needs
from lib.studies.language.names import DRAW_NOTHING, MODELS, ratio, table, windows

Studies = Mapping[str, Results]
Parts = dict[str, Estimate | NotTestable]

#: Runs that an interval over seeds needs.
SEEDS = 3


def compared(studies: Studies, study: str, first: Mapping, second: Mapping, holds: Iterable[str] = (), base: str | None = None) -> Parts:
    """Perplexity of the runs of ``study`` with fields ``first`` over that of those with fields ``second``, of ``base`` where that is given.

    ``holds``  needs of :mod:`lib.studies.language.needs` that must hold for a model
    """
    found: Parts = {}
    for which in MODELS:
        mine, other = windows(studies[study], which, **first), windows(studies[base or study], which, **second)
        apart = table(mine, other, which, (first.get("by") in DRAW_NOTHING, second.get("by") in DRAW_NOTHING))
        if apart is None:
            continue  # a model that this scale leaves out
        reasons = [reason for need in holds if (reason := needs.holds(getattr(needs, need), studies, which))]
        if len(apart) < SEEDS:
            reasons.append(NotTestable(f"{len(apart)} of {SEEDS} seeds of {which} are there"))
        found[which] = reasons[0] if reasons else ratio(apart)
    if not found:
        raise NotTestable(f"the two that are compared were not both run{why(studies[study])}")
    return found


def influence_over_random(studies: Studies) -> Parts:
    """As many blocks by Block Influence as at random."""
    counts = {result.spec["method"]["count"] for result in studies["depth"] if result.spec["method"]["by"] == "random"}
    found: Parts = {}
    for count in counts:
        try:
            found |= compared(studies, "depth", {"by": "influence", "count": count}, {"by": "random", "count": count}, ["removal_hurts"])
        except NotTestable:
            continue
    if not found:
        raise NotTestable(f"blocks were not removed in both ways{why(studies['depth'])}")
    return found
