"""A model's folder, published checkpoints, extending, and `UnifiedModel`."""
