"""Invertible maps of latents, with the logarithms of their Jacobians' determinants, for posteriors and priors."""
