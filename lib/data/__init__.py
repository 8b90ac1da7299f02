"""Data sets: found, checked, decoded, split, augmented; images, stories, tasks."""
