"""What the privacy chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

from lib.runs.results import Results
from lib.studies.base.needs import above_linear

Studies = Mapping[str, Results]


def all_relus_have_learnt(studies: Studies) -> None:
    """Need a network with all its ReLUs that beats a linear classifier of the pixels."""
    runs = studies["baseline"]
    above_linear(
        [r.metrics["test_accuracy"] for r in runs], runs[0].spec["dataset"] if runs else "cifar10", "the network with all its ReLUs"
    )
