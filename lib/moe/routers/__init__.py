"""Routers, a file per paper: each decides which expert a token goes to."""
