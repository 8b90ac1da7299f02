"""Chapter 8, private inference: what it runs, and how its claims are read."""
