"""The mixtures chapter's claims that are computed by functions read the right runs, and say where they cannot tell."""

import pytest

from claimed import reads
from lib.measure.statistics import NotTestable
from lib.runs.results import Result, Results


def vit(curve, router=None, experts=8, seed=0):
    moe = {"router": router, "experts": experts, "k": 1, "gate": None} if router else None
    spec = {"seed": seed, "moe": moe, "teacher": None, "recipe": {"epochs": len(curve)}, "widening": 1}
    return Result("moe-vit", f"{router} {seed}", spec, {"test_accuracy": curve[-1]}, {"val_accuracy": curve}, {}, {"device": "none"})


CLAIMS = [("switch-sample-efficiency", "accuracy", None, "switch"), ("expert-choice-convergence", "routers", "switch", "expert-choice")]


@pytest.mark.parametrize("claim, study, base, run", CLAIMS)
def test_epochs_that_a_mixture_saves(claim, study, base, run):
    climbs = [epoch / 8 for epoch in range(1, 9)]
    fast, never = [0.5, 1.0, *[1.0] * 6], [0.5] * 8
    runs = [vit(climbs, base, seed=seed) for seed in (0, 1)] + [vit(fast, run), vit(never, run, seed=1)]
    assert reads(claim)({study: Results(tuple(runs))}) == [4.0, 0.0]


@pytest.mark.parametrize("claim, study, base, run", CLAIMS)
def test_a_saving_cannot_be_seen_in_few_epochs(claim, study, base, run):
    runs = Results((vit([0.5] * 7, base), vit([0.6] * 7, run)))
    with pytest.raises(NotTestable, match="fewer than 8"):
        reads(claim)({study: runs})
