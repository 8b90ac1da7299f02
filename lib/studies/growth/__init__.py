"""Chapter 3, growing models: what it runs, and how its claims are read."""
