"""The contract of media tokenizers: media -> codes -> media, as typed protocols.

`MediaTokenizer` is what every tokenizer has; `ImageTokenizer`, `AudioTokenizer` and
`VideoTokenizer` add what belongs to pictures, to sound and to videos. Use them as types wherever a
tokenizer is an argument. After `CompressionModel` of moshi and audiocraft, with the media's exact
size kept beside the codes.

Legend: B batch, K codebooks (levels), T frames, H W pixels or code grid, S samples, C channels,
D width.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:  # torch takes 1.3 s to import, and some tokenizers need none
    import numpy as np
    import torch
    from torch import Tensor

__all__ = [
    "AudioTokenizer", "Codes", "ImageTokenizer", "MediaTokenizer", "Modality", "VideoTokenizer",
]  # fmt: skip

Modality = str
"""`image`, `audio`, or the name of another modality (`unified_data.segments`)."""


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` returns and `decode` takes.

    Attributes:
        codes: int64 (B, K, *grid): (B, K, H, W) for images, (B, K, T) for audio, (B, K, T, H, W)
            for videos.
        size: (height, width) in pixels, (num_samples,), or (num_frames, height, width), of the
            media that was encoded: `decode` returns media of exactly this size.
    """

    codes: Tensor
    size: tuple[int, ...]


@runtime_checkable
class MediaTokenizer(Protocol):
    """What every tokenizer has. Its codes do not depend on `device` or `dtype`.

    One that can only encode says why in an attribute `cannot_decode`, a line of text.
    """

    @property
    def modality(self) -> Modality:
        """Which media: `image` or `audio`."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex, 16 characters) of configuration and weights."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move to a device, and choose the dtype in which `decode` computes.

        `encode` computes in float32 always, and the weights stay float32: quantization decides
        between neighbouring codes, and the fingerprint is of the weights.
        """

    def encode(self, media: Tensor) -> Codes:
        """Media of one shape to codes, on the device of `media`. Each item as if it were alone."""

    def decode(self, codes: Codes) -> Tensor:
        """Codes to media of exactly `codes.size`, float32, on the device of the codes."""

    def code_vectors(self) -> tuple[Tensor, ...]:
        """The vector of every code, as the decoder gets it: K tensors (C, D), each of mean 0.

        Raises ValueError for a tokenizer that cannot tell.
        """

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors."""

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], /) -> Self:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode."""


@runtime_checkable
class ImageTokenizer(MediaTokenizer, Protocol):
    """Pictures (B, 3, H, W), uint8 or float in [0, 1], to codes (B, K, h, w)."""

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers: h = ceil(H / stride)."""

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""

    @property
    def encode_context(self) -> int | None:
        """Rows and columns on each side of a code, in codes, that it depends on; None: all."""

    @property
    def decode_context(self) -> int | None:
        """Rows and columns of codes on each side of one that its pixels depend on; None: all."""

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """A picture as the published processor of this tokenizer resizes, crops and pads it.

        pixels: uint8 (H, W, 3). Returns uint8 of `preprocessed_size`; the picture itself where the
        tokenizer has no published processor. Normalisation is part of `encode`.
        """

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that `preprocess` returns for a picture of this size."""


@runtime_checkable
class AudioTokenizer(MediaTokenizer, Protocol):
    """Waveforms (B, C, S), float in [-1, 1] at `sample_rate`, to codes (B, K, T).

    To code in chunks of any size, with the result of doing it whole, hand the tokenizer to
    `unified_tokenizers.streaming.EncodeStream` or `DecodeStream`.
    """

    @property
    def sample_rate(self) -> int:
        """Samples per second of what is encoded and decoded, Hz."""

    @property
    def channels(self) -> int:
        """Channels C of what is encoded and decoded: 1 mono, 2 stereo."""

    @property
    def hop(self) -> int:
        """Samples per code frame: T = ceil(S / hop)."""

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""

    @property
    def bits_per_second(self) -> float:
        """Bits of the codes per second of sound, before entropy coding."""

    @property
    def encode_context(self) -> tuple[int, int] | None:
        """Samples before and after a code frame that its codes depend on; None: no bound."""

    @property
    def decode_context(self) -> tuple[int, int] | None:
        """Code frames before and after a frame that its samples depend on; None: no bound."""


@runtime_checkable
class VideoTokenizer(MediaTokenizer, Protocol):
    """Videos (B, 3, T, H, W), uint8 or float in [0, 1], at `frame_rate`, to codes (B, K, t, h, w).

    No code depends on a frame after those it is of. t = 1 + ceil((T - 1) / group).
    """

    @property
    def frame_rate(self) -> float:
        """Frames per second of what is encoded and decoded."""

    @property
    def group(self) -> int:
        """Frames that share codes, but for the first, which has its own; 1: each has its own."""

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers: h = ceil(H / stride)."""
