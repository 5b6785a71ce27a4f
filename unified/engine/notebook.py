"""A live view of a stream in a Jupyter notebook: text as it comes, pictures row by row, sounds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from unified.engine import events
from unified.engine.events import Event, ImageRow, completions
from unified_base.cells import join_cells, note_cell, picture_cell, sound_cell, text_cell
from unified_data.document import Document

__all__ = ["watch"]

_PAUSE = 0.15
"""Seconds between two looks, at least."""
_BYTES_A_SECOND = 8e6
"""That the view may send: of a large one there are fewer looks."""
_DECODING = 0.2
"""Share of the time between two looks that goes into decoding what there is of a picture."""


def watch(stream: Iterable[Event]) -> list[Document]:
    """Show a stream in the cell's output while it comes, and return its documents in their order.

        from unified import UnifiedModel, watch
        documents = watch(model.stream([document], seeds=[1]))

    stream: the events of `UnifiedModel.stream`; whatever ends the cell ends the sampling.

    Raises ValueError where IPython is not installed, or a document was dropped.
    """
    try:
        from IPython.display import HTML, display
    except ImportError:
        raise ValueError(
            "watch shows a stream in a notebook, and IPython is not installed; install jupyter, or "
            "loop over the stream"
        ) from None
    view = _View()
    handle: Any = display(HTML(view.html()), display_id=True)

    def show(event: Event) -> None:
        view.add(event)
        if view.is_due():
            handle.update(HTML(view.html()))

    documents: dict[int, Document] = {}
    try:
        for done in completions(stream, show):
            documents[done.row] = done.document
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
        view.end()
        handle.update(HTML(view.html()))
    return [documents[row] for row in sorted(documents)]


@dataclass
class _RowView:
    """What there is of one document: cells of what is complete, and what is under way."""

    cells: list[str] = field(default_factory=list)
    text: str = ""
    status: str = ""
    height: int | None = None
    picture: ImageRow | None = None
    looked_at: str = ""

    def close_text(self) -> None:
        if self.text.strip():
            self.cells.append(text_cell(self.text.strip("\n")))
        self.text = ""

    def finish(self, cell: str) -> None:
        self.close_text()
        self.cells.append(cell)
        self.clear()

    def clear(self) -> None:
        self.status, self.picture, self.looked_at = "", None, ""

    def under_way(self) -> list[str]:
        parts = [text_cell(self.text.strip("\n"))] if self.text.strip() else []
        parts += [self.looked_at] if self.looked_at else []
        return parts + ([note_cell(self.status)] if self.status else [])


class _View:
    """The rows of a stream as a part of a page."""

    def __init__(self) -> None:
        self._rows: dict[int, _RowView] = {}
        self._next = 0.0
        self._next_picture = 0.0

    def add(self, event: Event) -> None:
        """Take an event in."""
        row = self._rows.setdefault(event.row, _RowView())
        if isinstance(event, events.TextPiece):
            row.text += event.text
        elif isinstance(event, events.ImageBegun):
            row.close_text()
            row.height = event.height
            sides = "" if event.width is None else f" of {event.width}x{event.height}"
            row.status = f"picture{sides} ..."
        elif isinstance(event, events.ImageRow):
            row.picture = event
            row.status = f"picture: row {event.y + 1}"
        elif isinstance(event, events.ImageDone):
            row.finish(picture_cell(event.image.pixels))
        elif isinstance(event, events.AudioBegun):
            row.status = "sound ..."
        elif isinstance(event, events.AudioFrame):
            row.status = f"sound: {event.seconds:.1f} s"
        elif isinstance(event, events.AudioDone):
            row.finish(sound_cell(event.audio.waveform, event.audio.sample_rate))
        elif isinstance(event, events.MediaBegun):
            row.status = f"{event.modality} ..."
        elif isinstance(event, events.MediaDone):
            row.finish(event.segment._repr_html_())
        elif isinstance(event, events.Dropped):
            row.finish(note_cell(f"dropped: {event.reason}"))
        elif isinstance(event, events.TextCut):
            row.finish(note_cell(event.message))
        elif isinstance(event, events.Done):
            row.close_text()
            row.clear()

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() >= self._next

    def html(self) -> str:
        """All of it, with the pictures under way as far as they are."""
        self._look()
        several = len(self._rows) > 1
        cells: list[str] = []
        for number in sorted(self._rows):
            row = self._rows[number]
            cells += [note_cell(f"document {number}")] if several else []
            cells += row.cells + row.under_way()
        text = join_cells(cells)
        self._next = time.monotonic() + max(_PAUSE, len(text) / _BYTES_A_SECOND)
        return text

    def end(self) -> None:
        """Nothing more comes: what was not complete stays as far as it is."""
        for row in self._rows.values():
            row.close_text()
            row.status = ""

    def _look(self) -> None:
        """Decode pictures under way, unless that would slow the sampling down."""
        begun = time.monotonic()
        if begun < self._next_picture:
            return
        for row in self._rows.values():
            if row.picture is not None:
                row.looked_at = picture_cell(row.picture.picture(), height=row.height)
                row.picture = None
        now = time.monotonic()
        self._next_picture = now + (now - begun) / _DECODING
