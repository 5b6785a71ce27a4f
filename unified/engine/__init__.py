"""Sampling: requests, their state, the KV cache, the choice of ids, streaming."""
