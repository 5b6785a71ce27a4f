"""Judges of what a model makes."""
