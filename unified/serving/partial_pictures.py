"""Pictures that are shown before they are complete: the rows so far, in the size of the whole."""

from __future__ import annotations

import asyncio

import numpy as np

from unified.engine.events import ImageBegun, ImageRow
from unified.serving.media_written import PictureFile

__all__ = ["PartialPictures"]

_GREY = 128  # of rows that are still to come


class PartialPictures:
    """The partial pictures of one document, spread evenly over the rows of each picture.

    index: of the last one that was made, within its picture.
    """

    def __init__(self, number: int, stride: int, file: PictureFile) -> None:
        """
        Args:
            number: of partial pictures for each picture, 0 to 3.
            stride: pixels of a row of codes.
            file: how they are written.
        """
        self.index = -1
        self._number, self._stride, self._file = number, stride, file
        self._size: tuple[int, int] | None = None  # (height, width); None: nothing says it

    def begin(self, event: ImageBegun) -> None:
        """A picture begins. One whose codes lie in no rows has no partial ones."""
        self.index = -1
        known = event.height is not None and event.width is not None
        self._size = (event.height, event.width) if known else None  # type: ignore[assignment]

    async def at(self, event: ImageRow) -> bytes | None:
        """The partial picture that is due at a row; None where none is, as behind the last row."""
        if self._size is None or self.index + 1 >= self._number:
            return None
        rows = self._size[0] // self._stride
        # Partial i of n comes with the first row at which (i + 1) / (n + 1) of them are there.
        landed = event.y + 1
        if landed >= rows or landed * (self._number + 1) < rows * (self.index + 2):
            return None
        self.index += 1
        return await asyncio.to_thread(self._made, event, self._size)

    def _made(self, event: ImageRow, size: tuple[int, int]) -> bytes:
        so_far = event.picture()
        whole = np.full((*size, 3), _GREY, np.uint8)
        whole[: so_far.shape[0]] = so_far
        return self._file.encode(whole)
