"""Invertible maps of latents, with the logarithms of their Jacobians' determinants, for posteriors and priors.

Their interface, `Flow`, is in `distributions.transformed`, next to the distribution that is made with one.
"""
