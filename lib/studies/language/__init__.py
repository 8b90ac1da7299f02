"""Compressing a trained language model: what it runs, and how its claims are read."""
