"""What the attention chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.measure.statistics import NotTestable
from lib.runs.results import Results
from lib.studies.base.needs import at_least
from lib.studies.growth.api import TOKENS_PER_PARAMETER

Studies = Mapping[str, Results]

#: How often, beyond chance, a network may be right about what its context does not hold: what more would mean is that the task leaks.
LEAK = 0.05


def story_models_have_tokens(studies: Studies) -> None:
    """Need models of stories that read 20 training tokens per parameter: else unfinished runs are compared."""
    at_least(
        [r.spec["tokens"] * r.spec["steps"] / r.metrics["parameters"] for r in studies["stories"]],
        TOKENS_PER_PARAMETER,
        "the model of stories",
        "training tokens per parameter",
    )


def answers_outside_the_context_are_guessed(studies: Studies) -> None:
    """Need networks that only guess answers which stand before their context, to five points: else it is not the context that helps."""
    beyond = [r.metrics["accuracy_beyond"] - r.metrics["chance"] for r in studies["recall"] if r.metrics["accuracy_beyond"] is not None]
    if not beyond:
        raise NotTestable("no network had a context that is too short for the answer")
    if (leak := float(np.mean(beyond))) > LEAK:
        raise NotTestable(
            f"answers that stand before the context are found {100 * leak:.1f} points more often than by chance: the task leaks"
        )
