"""What an entry of the table of modalities (`modality`) says.

Shapes: K codebook levels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from unified_data.document import Media, Role, Slot

if TYPE_CHECKING:
    from torch import Tensor

    from unified_tokenizers.base import MediaTokenizer

__all__ = ["Modality"]

MediaT = TypeVar("MediaT", bound=Media)
TokenizerT = TypeVar("TokenizerT", bound="MediaTokenizer")


class Modality(ABC, Generic[MediaT, TokenizerT]):
    """One row of the table.

    Attributes:
        media: the class of its segments; `media.modality` is its name.
        axes: of the grid of its codes behind the levels, where a format lays them out in full.
        colour: of its ids where a sequence is printed (a colour of `rich`).
        temperature: at which its codes are sampled where nothing else is asked for.
        max_batch: media of one size that are coded at a time, at most.
        max_batch_values: their pixels or samples together, at most.
    """

    media: ClassVar[type[Media]]
    axes: ClassVar[tuple[str, ...]] = ("frames",)
    colour: ClassVar[str] = "blue"
    temperature: ClassVar[float] = 0.7
    max_batch: ClassVar[int] = 16
    max_batch_values: ClassVar[int] = 500_000

    @property
    def name(self) -> str:
        return self.media.modality

    @abstractmethod
    def prepare(self, segment: MediaT, tokenizer: TokenizerT, fit: int | None = None) -> np.ndarray:
        """A segment as its tokenizer takes it: channels first, without the axis of the batch.

        fit: make it fit the tokenizer, pictures to at most so many pixels a side; None: what does
        not fit is a ValueError.
        """

    @abstractmethod
    def restore(
        self, codes: np.ndarray, tokenizer: TokenizerT, role: Role | None, loss: float
    ) -> MediaT:
        """The segment of codes int64 (K, *grid)."""

    def again(self, decoded: Tensor) -> Tensor:
        """What a tokenizer decoded, as it encodes it: for codes of a round trip."""
        return decoded

    def slot_grid(self, slot: Slot, tokenizer: TokenizerT) -> tuple[int, ...] | None:
        """The grid of codes that a slot asks for, None where it leaves that free.

        Raises ValueError for a size that the tokenizer cannot give.
        """
        return None

    def describe(self, grid: tuple[int, ...], tokenizer: TokenizerT | None) -> str:
        """The extent of some codes in words. tokenizer: None where the model has none."""
        return " x ".join(f"{size} {axis}" for size, axis in zip(grid, self.axes))
