"""What the metrics of each group in `evaluation.metrics` are fed with from a trained model, a file a group."""
