"""Tokenizers whose media are codes already: nothing is learnt, there are no weights."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unified_base.atomic import atomic_write

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from unified_tokenizers.base import Codes

__all__ = ["PlainCodes"]


class PlainCodes(ABC):
    """The contract of tokenizers, for those that hand codes on as they get them.

    modality: of its media.
    """

    modality: str
    cannot_decode: str | None = None

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Codes of each level."""

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """What config.json holds, `model_type` among it."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._config(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Itself: it has no weights."""
        return self

    def encode_arrays(self, media: np.ndarray) -> np.ndarray:
        """Codes int64 (B, K, *grid) as they are."""
        return np.ascontiguousarray(media, np.int64)

    def decode_arrays(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        return codes.astype(np.float32)

    def encode(self, media: Tensor) -> Codes:
        from unified_tokenizers.base import Codes

        return Codes(media.long(), tuple(media.shape[2:]))

    def decode(self, codes: Codes) -> Tensor:
        return codes.codes.float()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json, which is all there is."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        atomic_write(path / "config.json", (json.dumps(self._config(), indent=2) + "\n").encode())
