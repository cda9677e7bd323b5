"""Families of likelihoods p(x|z): which parameters a decoder must give for a pixel, and the distribution they make."""
