"""The module that makes tiny checkpoints laid out as the published ones are."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).parents[1] / "unified" / "published" / "conftest.py"


@contextmanager
def published_checkpoints(name: str) -> Iterator[ModuleType]:
    """The module under a name of the caller's own, since pytest has it under another."""
    spec = importlib.util.spec_from_file_location(name, PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there for their module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]
