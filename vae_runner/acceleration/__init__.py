"""The same networks and optimizers, faster: nothing here changes what is computed, but for float32 rounding."""
