"""The live view: what is being sampled now, at the foot of the terminal and gone when done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.console import Console, Group
from rich.live import Live
from rich.style import Style
from rich.text import Text

from unified_base.terminal import console as plain_console

if TYPE_CHECKING:
    from unified.engine.events import ImageRow

_COLUMNS = 48  # of a picture: as wide as half blocks are worth, and it leaves room in 80 columns
# Of the time between two looks at most this share goes into decoding what is looked at.
_DECODING = 0.1


class LiveView:
    """A line of status, and the picture so far in half blocks, redrawn in place on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console(stderr=True)
        self._live: Live | None = None
        self._picture: Text | None = None
        self._next_look = 0.0

    def show(self, status: str, row: ImageRow | None = None) -> None:
        """Show a status. row: the picture's row that has landed; its picture is shown below."""
        if row is not None and self._colours:
            self._look(row)
        if self._live is None:
            self._live = Live(console=self.console, transient=True, auto_refresh=False)
            self._live.start()
        parts = [Text(status)] if self._picture is None else [Text(status), self._picture]
        self._live.update(Group(*parts), refresh=True)

    def clear(self) -> None:
        """Take the view off the terminal."""
        if self._live is not None:
            self._live.stop()
        self._live = self._picture = None
        self._next_look = 0.0

    @property
    def _colours(self) -> bool:
        return self.console.color_system in ("256", "truecolor")

    def _look(self, row: ImageRow) -> None:
        """Decode the picture so far, unless that would slow the sampling down."""
        begun = time.perf_counter()
        if begun < self._next_look:
            return
        self._picture = half_blocks(row.picture(), min(_COLUMNS, self.console.width))
        done = time.perf_counter()
        self._next_look = done + (done - begun) * (1 / _DECODING - 1)


def half_blocks(pixels: np.ndarray, columns: int) -> Text:
    """A picture, uint8 (H, W, 3), as text of `columns` characters a line, two pixels in each."""
    height, width = pixels.shape[:2]
    lines = max(1, round(columns * height / width / 2))
    small = Image.fromarray(pixels).resize((columns, 2 * lines), Image.Resampling.BOX)
    text = Text()
    for upper, lower in np.asarray(small).reshape(lines, 2, columns, 3).tolist():
        for above, below in zip(upper, lower):
            style = Style(color="#{:02x}{:02x}{:02x}".format(*above),
                          bgcolor="#{:02x}{:02x}{:02x}".format(*below))  # fmt: skip
            text.append("\u2580", style)
        text.append("\n")
    return text
