"""What the environment says of the compiled decoders."""

from __future__ import annotations

import os

from unified_base.text import quoted

__all__ = ["ARITHMETIC", "CACHE_DTYPE", "chosen_type"]

ARITHMETIC = "UNIFIED_CPU_ARITHMETIC"
"""The environment variable that forces float32 products where it is "float32"."""
CACHE_DTYPE = "UNIFIED_CPU_CACHE"
"""The environment variable that says the type of keys and values."""


def chosen_type(name: str, value: str | None, variable: str, choices: tuple[str, ...]) -> str:
    """An argument, or else what the environment says, or else the first choice.

    Raises ValueError for what is not among the choices.
    """
    source = name if value is not None else variable
    chosen = value if value is not None else os.environ.get(variable) or choices[0]
    if chosen not in choices:
        raise ValueError(f"{source} is {quoted(chosen)}, expected {' or '.join(choices)}")
    return chosen
