"""Opening a tokenizer for sampling: with numpy where that is enough, with torch otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from unified_tokenizers.base import MediaTokenizer
from unified_tokenizers.saved_config import read_entries

__all__ = ["load_array_tokenizer"]


def load_array_tokenizer(folder: str | os.PathLike[str]) -> MediaTokenizer:
    """The tokenizer in a folder, which codes arrays without torch if it can.

    Of our own ones without attention, that is `numpy_image.NumpyImageTokenizer` or
    `numpy_audio.NumpyAudioTokenizer`; anything else is `loading.load_tokenizer`'s.

    Raises ValueError as `load_tokenizer`.
    """
    path = Path(folder)
    try:
        entries = read_entries(path / "config.json", "tokenizer")
        if "model_type" not in entries and entries.get("modality") == "image":
            from unified_tokenizers.numpy_image import NumpyImageTokenizer

            return NumpyImageTokenizer.from_pretrained(path)
        if "model_type" not in entries and entries.get("modality") == "audio":
            from unified_tokenizers.numpy_audio import NumpyAudioTokenizer

            return cast("MediaTokenizer", NumpyAudioTokenizer.from_pretrained(path))
    except ValueError:
        pass  # said below, or torch's to compute
    from unified_tokenizers.loading import load_tokenizer

    return cast("MediaTokenizer", load_tokenizer(path))
