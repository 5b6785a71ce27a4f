"""Media <-> codes: discrete tokenizers for images, audio and video behind one contract.

`MediaTokenizer`, `ImageTokenizer`, `AudioTokenizer` and `VideoTokenizer` are the contract
(protocols, to be used as types); `VQImageTokenizer`, `VQAudioTokenizer` and `VQVideoTokenizer` are
the tokenizers that this library trains; `FrameTokenizer` and `TiledTokenizer` code videos and large
pictures by any image tokenizer.
Knows no ids and no language model. The public names load lazily: torch costs two seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unified_base.waiting import wait_asleep

if TYPE_CHECKING:
    from unified_tokenizers.audio import VQAudioTokenizer
    from unified_tokenizers.base import (
        AudioTokenizer,
        Codes,
        ImageTokenizer,
        MediaTokenizer,
        VideoTokenizer,
    )
    from unified_tokenizers.frames import FrameTokenizer
    from unified_tokenizers.image import VQImageTokenizer
    from unified_tokenizers.loading import load_tokenizer
    from unified_tokenizers.registry import register_tokenizer
    from unified_tokenizers.tiled import TiledTokenizer
    from unified_tokenizers.video import VQVideoTokenizer

__all__ = [
    "AudioTokenizer",
    "Codes",
    "FrameTokenizer",
    "ImageTokenizer",
    "MediaTokenizer",
    "TiledTokenizer",
    "VQAudioTokenizer",
    "VQImageTokenizer",
    "VQVideoTokenizer",
    "VideoTokenizer",
    "load_tokenizer",
    "register_tokenizer",
]

_HOME = {
    "AudioTokenizer": "base",
    "Codes": "base",
    "FrameTokenizer": "frames",
    "ImageTokenizer": "base",
    "MediaTokenizer": "base",
    "TiledTokenizer": "tiled",
    "VQAudioTokenizer": "audio",
    "VQImageTokenizer": "image",
    "VQVideoTokenizer": "video",
    "VideoTokenizer": "base",
    "load_tokenizer": "loading",
    "register_tokenizer": "registry",
}

wait_asleep()  # before torch is imported


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
