"""One training loop: recipes, schedules, optimisers, its log."""
