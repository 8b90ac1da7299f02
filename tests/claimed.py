"""What claims read."""

from lib.claims.entries import find


def reads(claim_id):
    """What reads a claim's values from studies, as ``data/claims.yml`` declares it."""
    return find(claim_id).function()
