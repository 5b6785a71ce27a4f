"""Importing this first lets libraries be found before the files beside it.

Python looks in a script's own folder first, and transformers would take the tokenizers.py here for
the package of that name.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

sys.path.append(sys.path.pop(0))


def needs(extra: str, *modules: str) -> None:
    """End the program (exit code 2) where a module of one of pyproject.toml's extras is missing."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        command = f'pip install -c constraints.txt -e ".[dev,{extra}]"'
        print(f"error: {' and '.join(missing)} missing; install: {command}", file=sys.stderr)
        sys.exit(2)
