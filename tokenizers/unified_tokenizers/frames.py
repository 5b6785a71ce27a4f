"""Videos as the frames of an image tokenizer, each coded for itself.

Legend: B batch, T frames, H W pixels, K codebooks, h w code grid.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor

from unified_base.text import quoted
from unified_tokenizers.base import Codes, ImageTokenizer
from unified_tokenizers.checks import check_codes, check_videos
from unified_tokenizers.saved import save_exactly, saved_whole
from unified_tokenizers.saved_config import read_entries

__all__ = ["FrameTokenizer"]

_INSIDE = "image"
_MOST_RATE = 1_000.0
_BATCH_PIXELS = 2**22


class FrameTokenizer:
    """A video tokenizer of any image tokenizer: codes (B, K, T, h, w), `group` 1.

    Args:
        image: what codes a frame. It is held, not copied.
        frame_rate: frames per second of what is encoded and decoded.
    """

    modality = "video"
    group = 1

    def __init__(self, image: ImageTokenizer, frame_rate: float = 2.0) -> None:
        number = isinstance(frame_rate, int | float) and not isinstance(frame_rate, bool)
        if not number or not 0 < frame_rate <= _MOST_RATE:
            raise ValueError(
                f"frame_rate is {quoted(frame_rate)}, expected more than 0 and at most"
                f" {_MOST_RATE:,.0f} frames a second"
            )
        if image.modality != "image":
            raise ValueError(
                f"frames are coded by an image tokenizer, found one of {image.modality}"
            )
        self.image = image
        self.frame_rate = float(frame_rate)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.image.stride

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return tuple(int(size) for size in self.image.codebook_sizes)

    @property
    def fingerprint(self) -> str:
        """Of the image tokenizer and the frame rate."""
        text = f"frames {self.frame_rate!r} {self.image.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image.device

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        return getattr(self.image, "cannot_decode", None)

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """See `base.MediaTokenizer`."""
        self.image.to(device, dtype)
        return self

    def encode(self, media: Tensor) -> Codes:
        """Videos (B, 3, T, H, W), uint8 or floating point in [0, 1], to codes (B, K, T, h, w)."""
        check_videos(media)
        batch, _, frames, height, width = media.shape
        pictures = rearrange(media, "b c t h w -> (b t) c h w")
        step = max(1, _BATCH_PIXELS // (height * width))
        codes = torch.cat([self.image.encode(part).codes for part in pictures.split(step)])
        return Codes(rearrange(codes, "(b t) k h w -> b k t h w", b=batch), (frames, height, width))

    def decode(self, codes: Codes) -> Tensor:
        """Codes to videos: float32 (B, 3, *codes.size) in [0, 1]."""
        check_codes(codes.codes, self.codebook_sizes, 3, "video")
        frames, height, width = codes.size
        if frames != codes.codes.shape[2]:
            raise ValueError(
                f"a video of {frames} frames does not have {codes.codes.shape[2]} frames of codes,"
                " where each is coded for itself"
            )
        flat = rearrange(codes.codes, "b k t h w -> (b t) k h w")
        step = max(1, _BATCH_PIXELS // (height * width))
        parts = [self.image.decode(Codes(part, (height, width))) for part in flat.split(step)]
        return rearrange(torch.cat(parts), "(b t) c h w -> b c t h w", t=frames)

    def code_vectors(self) -> tuple[Tensor, ...]:
        """Those of the image tokenizer."""
        return self.image.code_vectors()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json, and the image tokenizer into a folder within."""
        config = {"model_type": "frames", "modality": self.modality, "frame_rate": self.frame_rate}
        with saved_whole(folder) as path:
            save_exactly(self.image, path / _INSIDE)
            (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what `save_pretrained` wrote. Raises ValueError for files missing or torn."""
        from unified_tokenizers.loading import load_tokenizer

        path = Path(folder)
        entries: Mapping[str, Any] = read_entries(path / "config.json", "tokenizer")
        unknown = sorted(set(entries) - {"model_type", "modality", "frame_rate"})
        if unknown or "frame_rate" not in entries:
            raise ValueError(
                f"{path / 'config.json'} has {quoted(sorted(entries))}, expected model_type,"
                " modality and frame_rate"
            )
        return cls(load_tokenizer(path / _INSIDE, "image"), entries["frame_rate"])
