"""Blocks of ids and their manifest; the text tokenizer."""
