"""Media <-> codes: discrete tokenizers for images and audio behind one contract.

Knows no ids and no language model. The public names load lazily: torch costs two seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unified_base.waiting import wait_asleep

if TYPE_CHECKING:
    from unified_tokenizers.audio import AudioTokenizer
    from unified_tokenizers.base import Codes, MediaTokenizer, load_tokenizer
    from unified_tokenizers.image import ImageTokenizer

__all__ = ["AudioTokenizer", "Codes", "ImageTokenizer", "MediaTokenizer", "load_tokenizer"]

_HOME = {
    "AudioTokenizer": "audio",
    "Codes": "base",
    "ImageTokenizer": "image",
    "MediaTokenizer": "base",
    "load_tokenizer": "base",
}

wait_asleep()  # before torch is imported


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
