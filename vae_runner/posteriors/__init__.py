"""Families of posteriors q(z|x): which parameters an encoder must give, and the distribution they make."""
