"""The shipped model: its weights, and its prompts in plain words."""
