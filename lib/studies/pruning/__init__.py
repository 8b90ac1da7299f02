"""Pruning, lottery tickets, quantization: what it runs, and how its claims are read."""
