"""How hidden states and logits are computed."""
