"""The pocket world: a few hundred subjects with glyphs and facts, composed into documents."""
