"""Lottery tickets in transformers: what it runs, and how its claims are read."""
