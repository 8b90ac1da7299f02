"""Chapter 2, elastic training: what it runs, and how its claims are read."""
