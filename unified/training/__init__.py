"""Training a decoder: configuration, loss, checkpoints, the loop, preferences, plans."""
