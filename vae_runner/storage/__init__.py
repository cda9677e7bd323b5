"""Directories of runs: the only room that knows their file names."""
