"""Base classes of tokenizers that are torch modules: device, precision, and what follows from the
sizes. Other people's tokenizers may derive from them, or satisfy `unified_tokenizers.base` alone.

Legend: B batch, K codebooks, C codes of one, T frames, D width, H W pixels.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from unified_tokenizers.base import Modality

__all__ = [
    "BaseAudioTokenizer", "BaseImageTokenizer", "BaseTokenizer", "BaseVideoTokenizer",
    "weights_digest",
]  # fmt: skip

_DECODE_TYPES = (torch.float32, torch.bfloat16, torch.float16)


class BaseTokenizer(nn.Module, ABC):
    """Device and precision of a tokenizer.

    A subclass implements `codebook_sizes`, `encode` and `decode`, and `values_of` if its code
    vectors may be asked for.
    """

    modality: Modality
    decode_dtype: torch.dtype = torch.float32
    """In which `decode` computes; set by `to`."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    def to(  # type: ignore[override]
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Move to a device, and choose the dtype in which `decode` computes.

        Weights stay float32 and so does `encode`: codes and fingerprint are the same whatever the
        dtype is.

        Raises:
            ValueError: a dtype other than float32, bfloat16 and float16, or a device that torch
                does not have.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype is not None:
            if dtype not in _DECODE_TYPES:
                names = ", ".join(str(kind).removeprefix("torch.") for kind in _DECODE_TYPES)
                raise ValueError(f"a tokenizer decodes in {names}, not in {dtype}")
            self.decode_dtype = dtype
        if device is None:
            return self
        try:
            return super().to(torch.device(device))
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"cannot move a tokenizer to {device}: {reason}") from None

    @contextmanager
    def encode_precision(self) -> Iterator[None]:
        """float32 whatever the caller's autocast: quantization decides between neighbours."""
        with torch.autocast(self.device.type, enabled=False):
            yield

    @contextmanager
    def decode_precision(self) -> Iterator[None]:
        """The precision that was asked for in `to`, whatever the caller's autocast."""
        exact = self.decode_dtype == torch.float32
        dtype = None if exact else self.decode_dtype
        with torch.autocast(self.device.type, dtype=dtype, enabled=not exact):
            yield

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        return None

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of all codebooks, int64 (T, K), to what the decoder gets: (T, D)."""
        raise ValueError(
            f"a {type(self).__name__} does not give the vectors of its codes; begin the new rows"
            " in another way than codebook"
        )

    @torch.no_grad()
    def code_vectors(self) -> tuple[Tensor, ...]:
        """The vectors of every codebook's codes: K tensors, float32 (C, D) on the CPU, of mean 0.

        Decoders add up the vectors of residual codebooks, and put those of groups side by side, so
        that a code adds the same whatever the other codebooks hold: that is its vector.

        Raises ValueError for a tokenizer that does not give the vectors of its codes.
        """
        sizes = self.codebook_sizes
        vectors = []
        for level, size in enumerate(sizes):
            codes = torch.zeros(size, len(sizes), dtype=torch.int64)
            codes[:, level] = torch.arange(size)
            values = self.values_of(codes.to(self.device)).float().cpu()
            vectors.append(values - values.mean(0))
        return tuple(vectors)


class BaseImageTokenizer(BaseTokenizer):
    """What follows from stride and codebooks; without a published processor."""

    modality = "image"

    @property
    @abstractmethod
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels, before entropy coding."""
        return sum(math.log2(size) for size in self.codebook_sizes) / self.stride**2

    @property
    def encode_context(self) -> int | None:
        """Rows and columns on each side of a code, in codes, that it depends on; None: all."""
        return None

    @property
    def decode_context(self) -> int | None:
        """Rows and columns of codes on each side of one that its pixels depend on; None: all."""
        return None

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """The picture, uint8 (H, W, 3), as it is: no processor was published for this tokenizer."""
        return pixels

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what `preprocess` returns."""
        return height, width


class BaseAudioTokenizer(BaseTokenizer):
    """What follows from sample rate, hop and codebooks; mono, and without bounds for streams."""

    modality = "audio"

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Samples per second of what is encoded and decoded, Hz."""

    @property
    @abstractmethod
    def hop(self) -> int:
        """Samples per code frame."""

    @property
    def channels(self) -> int:
        """Channels of what is encoded and decoded: 1 mono, 2 stereo."""
        return 1

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.sample_rate / self.hop

    @property
    def bits_per_second(self) -> float:
        """Bits of the codes per second of sound, before entropy coding."""
        return self.frame_rate * sum(math.log2(size) for size in self.codebook_sizes)

    @property
    def encode_context(self) -> tuple[int, int] | None:
        """Samples before and after a code frame that its codes depend on; None: no bound."""
        return None

    @property
    def decode_context(self) -> tuple[int, int] | None:
        """Code frames before and after a frame that its samples depend on; None: no bound."""
        return None


class BaseVideoTokenizer(BaseTokenizer):
    """What follows from stride, group, frame rate and codebooks."""

    modality = "video"

    @property
    @abstractmethod
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""

    @property
    @abstractmethod
    def group(self) -> int:
        """Frames that share codes, but for the first, which has its own."""

    @property
    @abstractmethod
    def frame_rate(self) -> float:
        """Frames per second of what is encoded and decoded."""

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over the pixels of a group, before entropy coding."""
        bits = sum(math.log2(size) for size in self.codebook_sizes)
        return bits / (self.stride**2 * self.group)


def weights_digest(entries: str, state: Mapping[str, Tensor]) -> str:
    """SHA-256 (first 16 hex characters) of a configuration's text and of every weight."""
    digest = hashlib.sha256(entries.encode())
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
