"""Chapter 6, distillation: what it runs, and how its claims are read."""
