"""Sweeps: many runs in one directory, each known by what it computes."""
