"""Objectives: pure functions of an autoencoder and a batch."""
