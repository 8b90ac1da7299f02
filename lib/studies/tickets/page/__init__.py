"""What the tickets chapter shows of its runs: rows for its figures, its tables, and masks that it draws."""
