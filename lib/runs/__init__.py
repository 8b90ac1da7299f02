"""What was run, kept once: a Spec says what, the store keeps its Result, provenance says where it comes from."""
