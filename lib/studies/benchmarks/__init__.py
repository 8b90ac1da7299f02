"""Benchmarks across methods: what it runs, and how its claims are read."""
