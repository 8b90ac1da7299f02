"""A claim that one method is better, by whatever amount, is judged only where more training would not say otherwise."""

import pytest

from lib.claims.entries import Claim, claims, find

#: Chapters whose networks are trained for minutes, so that an arm that is a little ahead in time can win.
CHAPTERS = ("moe", "elastic", "pruning", "benchmarks")

#: Claims of a direction that need no flat curve, and why.
EXCEPTIONS = {
    "switch-init-quality": "it is about the first epoch",
    "switch-init-spread": "it is about the first epoch",
    "vmoe-priority": "both sides are one trained network, which is evaluated in two ways",
    "adamix-merging": "both sides are one trained network, which is evaluated in two ways",
    "train-large-then-compress": "it is about a budget that is too small to finish in",
}


def of_a_direction(claim: Claim) -> bool:
    """Whether any difference of accuracies in the claim's direction is enough."""
    return claim.unit == "points" and claim.criterion.value == 0


DIRECTIONS = [claim for claim in claims().values() if claim.subject in CHAPTERS and of_a_direction(claim)]


@pytest.mark.parametrize("claim", DIRECTIONS, ids=lambda claim: claim.id)
def test_claims_of_a_direction_need_a_baseline_that_has_finished(claim):
    flat = [need for need in claim.needs if need.name.endswith("_flat")]
    assert bool(flat) != (claim.id in EXCEPTIONS)
    for need in flat:
        assert need.spelled(claim.subject).endswith(("less than 1 point", "less than one point"))


def test_exceptions_are_claims_of_a_direction():
    assert set(EXCEPTIONS) <= {claim.id for claim in DIRECTIONS} and find("lth-iterative") in DIRECTIONS
