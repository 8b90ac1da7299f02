"""Model definitions shared by the methods."""
