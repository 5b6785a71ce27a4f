"""Grafting: an encoder of pictures or sounds and a connector, before a language model's layers.

Encoders are of transformers (`encoders`), connectors by name (`connector_table`);
an `embedder` is the two together, and `graft_files` keeps them in a model's folder.
"""
