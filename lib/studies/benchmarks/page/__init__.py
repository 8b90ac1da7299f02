"""What the benchmarks chapter shows of its runs: its first regime in words and tables, and the comparison at equal compute."""
