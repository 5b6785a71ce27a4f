"""A task of lmms-eval: documents of text, pictures and sound, checked without a judging model."""
