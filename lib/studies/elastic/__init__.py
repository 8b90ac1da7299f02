"""Elastic training: what it runs, and how its claims are read."""
