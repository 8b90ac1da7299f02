"""Converged networks that readers recognise, and the recipes that reach them."""
