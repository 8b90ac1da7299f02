"""Exact attention without the matrix: what it runs, and how its claims are read."""
