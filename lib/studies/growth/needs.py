"""What the growth chapter's claims presuppose: the functions that ``data/claims.yml`` names under ``needs``, see :mod:`lib.studies.base.needs`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.measure.statistics import NotTestable, paired_differences
from lib.runs.results import Results
from lib.studies.base.needs import at_least
from lib.studies.growth.claims import LOSS, called

Studies = Mapping[str, Results]

#: Training tokens per parameter below which a network is too large for its training (about the ratio of Hoffmann et al. 2022,
#: arXiv 2203.15556).
TOKENS_PER_PARAMETER = 20.0

DENSE, SPARSE = "dense, from scratch", "experts, from scratch"


def final_network_has_tokens(studies: Studies) -> None:
    """Need a final network that reads 20 training tokens per parameter from scratch with the full compute budget."""
    runs = called(studies["scratch"], DENSE)
    whole = [r.metrics["tokens"] / r.metrics["parameters"] for r in runs if r.spec["steps"] == usual_steps(runs)]
    at_least(whole, TOKENS_PER_PARAMETER, "the final network from scratch", "training tokens per parameter")


def usual_steps(runs: Results) -> int:
    """Of budgets that go below and above it, the middle one is what every comparison gets."""
    lengths = sorted({r.spec["steps"] for r in runs})
    return lengths[len(lengths) // 2]


def mixture_not_worse_than_dense(studies: Studies) -> None:
    """Need a mixture that is no worse than the dense network when both start from scratch with equal compute."""
    runs = studies["scratch"]
    worse = []
    for steps in sorted({r.spec["steps"] for r in called(runs, SPARSE)}):
        sparse = called(runs, SPARSE).where(steps=steps)
        dense = [r for r in called(runs, DENSE) if abs(r.metrics["total_flops"] / sparse[0].metrics["total_flops"] - 1) < 0.05]
        if dense:
            worse.append(float(np.mean(paired_differences(sparse, Results(tuple(dense), runs.missing), LOSS))))
    if not worse:
        raise NotTestable("mixture and dense network were not both trained from scratch with equal compute")
    if max(worse) > 0:
        raise NotTestable(
            f"from scratch, with equal compute, the mixture is up to {max(worse):.3f} bits per byte worse than the dense "
            "network: the regime in which experts help is not reached"
        )
