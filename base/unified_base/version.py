"""The version of all four packages, which are installed together."""

__version__ = "0.1.0"
