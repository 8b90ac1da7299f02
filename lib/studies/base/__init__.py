"""What studies share: parameters, seeds, names, needs, pictures."""
