"""What papers claim and whether our runs bear it out: verdicts computed from results, never typed."""
