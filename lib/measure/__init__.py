"""What is measured and how sure it is: FLOPs, seconds, bytes, robustness, intervals."""
