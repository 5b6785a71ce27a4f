"""What every encoder before a language model has.

Legend: B media, E width of features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from unified_data.document import Media

__all__ = ["FeatureEncoder"]


class FeatureEncoder(nn.Module, ABC):
    """A frozen module that gives a medium's features; how media are prepared is part of it.

    Attributes:
        modality: of its media.
        prepared: numpy's type of prepared media.
        width: E.
    """

    modality: ClassVar[str]
    prepared: ClassVar[str] = "float32"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        # Tells the device of an encoder that has no weights.
        self.register_buffer("_at", torch.zeros(0), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.buffers()).device

    @property
    @abstractmethod
    def label(self) -> str:
        """What it is, in a word."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of every weight, and of how media are prepared (first 16 hex digits of SHA-256)."""

    @abstractmethod
    def prepare(self, segment: Media) -> np.ndarray:
        """See `unified.sequence.continuous.Embedder`."""

    @abstractmethod
    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The grid of features of a prepared medium of this shape."""

    @property
    @abstractmethod
    def fixed_grid(self) -> tuple[int, ...] | None:
        """The grid of all media; None where it depends on the medium."""

    @abstractmethod
    def forward(self, media: Tensor) -> Tensor:
        """Features float32 (B, *grid, E) of prepared media of one shape, without gradients."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all of it, for `encoder_table.open_encoder`."""
