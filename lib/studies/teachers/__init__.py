"""Hostile, absent and inner teachers: what it runs, and how its claims are read."""
