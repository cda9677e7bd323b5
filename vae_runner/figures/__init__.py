"""Pictures of a trained model: each a function that gives a Matplotlib figure."""
