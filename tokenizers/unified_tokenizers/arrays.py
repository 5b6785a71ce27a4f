"""Media <-> codes as arrays: of any tokenizer, and without torch where it can do without.

Legend: B batch, K codebooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from unified_tokenizers.base import MediaTokenizer

__all__ = [
    "ArrayTokenizer", "decode_arrays", "decode_by_tensors", "encode_arrays", "encode_by_tensors",
]  # fmt: skip


@runtime_checkable
class ArrayTokenizer(Protocol):
    """What a `base.MediaTokenizer` has beside its contract if it codes arrays by itself."""

    def encode_arrays(self, media: np.ndarray) -> np.ndarray:
        """Media as `encode` takes them to codes int64 (B, K, *grid)."""

    def decode_arrays(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Codes int64 (B, K, *grid) to media float32 of exactly `size`, as `decode` gives them."""


def encode_arrays(tokenizer: MediaTokenizer, media: np.ndarray) -> np.ndarray:
    """Media (B, ...), as the tokenizer's `encode` takes them, to codes int64 (B, K, *grid)."""
    if isinstance(tokenizer, ArrayTokenizer):
        return tokenizer.encode_arrays(media)
    return encode_by_tensors(tokenizer, media)


def decode_arrays(
    tokenizer: MediaTokenizer, codes: np.ndarray, size: tuple[int, ...]
) -> np.ndarray:
    """Codes int64 (B, K, *grid) to media float32 (B, ...) of exactly `size`."""
    if isinstance(tokenizer, ArrayTokenizer):
        return tokenizer.decode_arrays(codes, size)
    return decode_by_tensors(tokenizer, codes, size)


def encode_by_tensors(tokenizer: MediaTokenizer, media: np.ndarray) -> np.ndarray:
    """`encode_arrays` through torch."""
    import torch

    with torch.inference_mode():
        codes = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(media))).codes
    array: np.ndarray = codes.cpu().numpy()
    return array


def decode_by_tensors(
    tokenizer: MediaTokenizer, codes: np.ndarray, size: tuple[int, ...]
) -> np.ndarray:
    """`decode_arrays` through torch."""
    import torch

    from unified_tokenizers.base import Codes

    with torch.inference_mode():
        media = tokenizer.decode(Codes(torch.tensor(codes, dtype=torch.int64), size))
    array: np.ndarray = media.float().cpu().numpy()
    return array
