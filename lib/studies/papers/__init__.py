"""Papers and claims: what it runs, and how its claims are read."""
