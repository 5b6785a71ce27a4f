"""Span grammars: read, compiled, followed, exported."""
