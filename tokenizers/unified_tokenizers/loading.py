"""Opening a tokenizer by a folder or a name on the Hugging Face hub, whoever's it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch

from unified_base.quiet import no_progress_bars
from unified_base.text import quoted
from unified_tokenizers.base import (
    AudioTokenizer,
    ImageTokenizer,
    MediaTokenizer,
    VideoTokenizer,
)
from unified_tokenizers.hub import HubOptions, check_readable, checkpoint_folder
from unified_tokenizers.registry import check_tokenizer, stored_type, tokenizer_class
from unified_tokenizers.saved_config import read_entries

__all__ = ["dtype_named", "load_tokenizer"]


@overload
def load_tokenizer(
    name_or_path: str | os.PathLike[str],
    modality: Literal["image"],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> ImageTokenizer: ...


@overload
def load_tokenizer(
    name_or_path: str | os.PathLike[str],
    modality: Literal["audio"],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> AudioTokenizer: ...


@overload
def load_tokenizer(
    name_or_path: str | os.PathLike[str],
    modality: Literal["video"],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> VideoTokenizer: ...


@overload
def load_tokenizer(
    name_or_path: str | os.PathLike[str],
    modality: str | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> Any: ...


def load_tokenizer(
    name_or_path: str | os.PathLike[str],
    modality: str | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **options: Any,
) -> Any:
    """Load a tokenizer as its config.json says: one of ours, a pretrained codec of transformers or
    diffusers (see `unified_tokenizers.adapters`), or a registered one (`registry`).

    Args:
        name_or_path: a folder, or a name on the Hugging Face hub such as "facebook/encodec_24khz".
        modality: what is expected, such as "image" or "audio"; without it, any.
        device: such as "cuda"; the CPU if left out.
        dtype: in which `decode` computes, such as "bfloat16"; float32 if left out. Codes do not
            depend on it.
        options: `subfolder`, `revision`, `cache_dir`, `local_files_only` (see `hub.HubOptions`),
            and settings of an adapter, such as `num_codebooks` for audio.

    Raises:
        ValueError: neither a folder nor on the hub; files missing, torn, of an unknown kind, of
            another modality, or of other shapes; settings that the tokenizer does not have; a
            device that is not there.
    """
    hub = {key: value for key, value in options.items() if key in HubOptions.__annotations__}
    settings = {key: value for key, value in options.items() if key not in hub}
    folder = checkpoint_folder(name_or_path, **hub)
    tokenizer = _open(folder, modality, settings)
    if modality is not None and tokenizer.modality != modality:
        raise ValueError(
            f"the tokenizer in {folder} is for {tokenizer.modality}, expected one for {modality}"
        )
    if device is not None or dtype is not None:
        tokenizer = tokenizer.to(device, dtype_named(dtype))
    return tokenizer


def dtype_named(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """torch's dtype of that name. ValueError for a name that is none."""
    if not isinstance(dtype, str):
        return dtype
    named = getattr(torch, dtype, None)
    if not isinstance(named, torch.dtype):
        raise ValueError(f"dtype {quoted(dtype)}, expected float32, bfloat16 or float16")
    return named


def _open(folder: Path, modality: str | None, settings: dict[str, Any]) -> MediaTokenizer:
    if folder.is_dir():
        check_readable(folder)
    path = folder / "config.json"
    entries = read_entries(path, "tokenizer")
    model_type = stored_type(entries)
    if model_type is not None or "modality" not in entries:
        kind = tokenizer_class(model_type, str(path), modality)
        with no_progress_bars():
            tokenizer = kind.from_pretrained(folder, **settings)
        return check_tokenizer(tokenizer, model_type)
    if settings:
        raise ValueError(f"{path} is of one of our tokenizers: it has no setting {min(settings)}")
    stored = entries["modality"]
    if stored == "image":
        from unified_tokenizers.image import VQImageTokenizer

        return VQImageTokenizer.from_pretrained(folder)
    if stored == "audio":
        from unified_tokenizers.audio import VQAudioTokenizer

        return cast("MediaTokenizer", VQAudioTokenizer.from_pretrained(folder))
    if stored == "video":
        from unified_tokenizers.video import VQVideoTokenizer

        return cast("MediaTokenizer", VQVideoTokenizer.from_pretrained(folder))
    raise ValueError(
        f"{path} names modality {quoted(stored)}, expected 'image', 'audio' or 'video'"
    )
