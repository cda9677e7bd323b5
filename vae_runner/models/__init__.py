"""Networks and the distributions between them; nothing here knows of Hydra, files or TensorBoard."""
