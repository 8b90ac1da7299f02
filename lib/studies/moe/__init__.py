"""Mixtures of experts and routing: what it runs, and how its claims are read."""
