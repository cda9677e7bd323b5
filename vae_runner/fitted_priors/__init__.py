"""Densities that are fitted to the latents of a trained autoencoder, to sample from."""
