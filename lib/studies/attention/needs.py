"""What the attention chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

from lib.runs.results import Results
from lib.studies.base.needs import at_least
from lib.studies.growth.api import TOKENS_PER_PARAMETER

Studies = Mapping[str, Results]


def story_models_have_tokens(studies: Studies) -> None:
    """Need models of stories that read 20 training tokens per parameter: else unfinished runs are compared."""
    at_least(
        [r.spec["tokens"] * r.spec["steps"] / r.metrics["parameters"] for r in studies["stories"]],
        TOKENS_PER_PARAMETER,
        "the model of stories",
        "training tokens per parameter",
    )
