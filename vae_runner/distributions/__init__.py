"""Probability distributions at one moment, as TensorFlow tensors; nothing here knows of networks, Hydra or files."""
