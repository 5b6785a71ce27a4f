"""The HTTP API: one model, one running batch, in the field names of OpenAI's published schema."""
