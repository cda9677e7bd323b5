"""Families of priors p(z)."""
