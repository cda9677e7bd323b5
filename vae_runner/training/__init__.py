"""Training: the inner loop is compiled, the outer loop is plain Python."""
