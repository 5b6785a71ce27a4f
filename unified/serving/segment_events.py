"""What sampling tells, as the events of segments that a page follows.

A text comes in pieces, a picture as the rows so far, a sound as samples. Whoever reads them gets
every segment once it is finished, to store it before a client is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from unified.engine.events import (
    AudioBegun,
    AudioChunk,
    AudioDone,
    AudioFrame,
    Done,
    Dropped,
    Event,
    ImageBegun,
    ImageDone,
    ImageRow,
    MediaBegun,
    MediaCodes,
    MediaDone,
    TextCut,
    TextPiece,
)
from unified.serving.article_record import Row
from unified.serving.article_view import described
from unified.serving.media_written import base64_of, pcm16
from unified_base.images import encode_png
from unified_data.document import Document, Image, Media, Slot, Text

__all__ = ["FinishedSegment", "SegmentEvents"]

_ROWS = 2  # of codes, between two pictures of the rows so far
_BLANK = re.compile(r"\n[ \t]*\n")
_BETWEEN = 0.5  # seconds between two events of progress


@dataclass(frozen=True, eq=False)
class FinishedSegment:
    """A segment is complete. index: in the document."""

    index: int
    segment: Text | Media


class SegmentEvents:
    """The events of one document's slots.

    Attributes:
        warnings: what did not come as it was asked, so far.
        ids: written so far.
        usage: of the document, once it is complete.
        is_over: whether what follows is not wanted.
    """

    def __init__(
        self,
        document: Document,
        first: int,
        stride: int,
        rate: int,
        *,
        begun: str = "",
        behind: str = "",
        until_blank: bool = False,
        redraw: Callable[[np.ndarray], np.ndarray] | None = None,
        expected_ids: int | None = None,
    ) -> None:
        """
        Args:
            document: that is sampled.
            first: index of the segment that is written first.
            stride: pixels of a row of codes.
            rate: samples a second of sounds.
            begun: text that the first segment begins with, where it is a text.
            behind: text that stands behind it.
            until_blank: nothing but a block of a text is written, which is over at an empty line or
                before media; what space it begins with is left out.
            redraw: makes the pixels of a picture's codes (K, h, w) in the decoder's stead.
            expected_ids: that are likely to be written in all.
        """
        self.warnings: list[str] = []
        self.ids = 0
        self.usage: dict[str, int] = {}
        self.is_over = False
        self._before = list(document.segments[: document.slots[0]])
        self._document, self._later = document, list(document.slots)
        self._slot, self._next = self._next_slot(), first
        self._stride, self._rate, self._redraw = stride, rate, redraw
        self._begun, self._behind, self._until_blank = begun, behind, until_blank
        self._text: str | None = None
        self._codes: list[np.ndarray] = []
        self._size: tuple[int, int] | None = None
        self._expected = expected_ids
        self._started = self._told = perf_counter()

    async def add(self, event: Event) -> AsyncIterator[dict[str, Any] | FinishedSegment]:
        """What the next event of the document comes to."""
        if isinstance(event, TextPiece):
            self.ids += 1
            if self._text is None:
                yield self._begin_text()
            if delta := self._more_text(event.text):
                yield {"type": "segment.text", "segment": self._next, "delta": delta}
            if self.is_over and (text := self._end_text()) is not None:
                yield text
        elif isinstance(event, ImageBegun | AudioBegun | MediaBegun | Done):
            self.is_over = self._until_blank  # media end a block as well
            if (text := self._end_text()) is not None:
                yield text
            if self.is_over:
                return
        async for own in self._of_media(event):
            yield own
        if isinstance(event, TextCut):
            self.warnings.append(event.message)
        elif isinstance(event, Dropped):
            self.warnings.append(event.reason)
        elif isinstance(event, Done):
            while self._later:
                self._leave_slot()
            self.usage = event.usage
            self.ids = event.usage["sampled_ids"] + event.usage["forced_ids"]
        if not isinstance(event, Done) and perf_counter() - self._told >= _BETWEEN:
            yield self.progress()

    def progress(self) -> dict[str, Any]:
        """Ids so far, and how fast they come."""
        self._told = perf_counter()
        seconds = self._told - self._started
        told: dict[str, Any] = {
            "type": "progress",
            "ids": self.ids,
            "ids_per_second": round(self.ids / max(seconds, 1e-3), 1),
            "seconds": round(seconds, 3),
        }
        if self._expected is not None:
            told["expected_ids"] = max(self._expected, self.ids)
        return told

    @property
    def document(self) -> Document:
        """Of all that there is so far."""
        last = self._document.slots[-1] + 1
        return Document((*self._before, *self._document.segments[last:]))

    @property
    def seconds(self) -> float:
        """Since the first event was waited for."""
        return round(perf_counter() - self._started, 3)

    def _next_slot(self) -> Slot:
        slot = self._document.segments[self._later.pop(0)]
        assert isinstance(slot, Slot)
        return slot

    def _begin(self, kind: str) -> None:
        """Leave slots out that had nothing to hold."""
        while self._slot.modality not in ("any", kind) and self._later:
            self._leave_slot()

    def _leave_slot(self) -> None:
        """Go to the next slot, behind what is given before it."""
        segments, stop = self._document.segments, self._later[0]
        start = max(at for at in self._document.slots if at < stop) + 1
        self._before += segments[start:stop]
        self._next += stop - start
        self._slot = self._next_slot()

    def _begin_text(self) -> dict[str, Any]:
        self._begin("text")
        self._text = ""
        started = {
            "type": "segment.started", "segment": self._next, "kind": "text",
            "role": self._slot.role,
        }  # fmt: skip
        return {**started, "text": self._begun} if self._begun else started

    def _more_text(self, piece: str) -> str:
        """Add a piece to the open text; what there is to tell of it."""
        assert self._text is not None
        before, self._text = self._text, self._text + piece
        if self._until_blank:
            self._text = self._text.lstrip()
            if match := _BLANK.search(self._text):
                self._text, self.is_over = self._text[: match.start()], True
        return self._text[len(before) :]

    def _end_text(self) -> FinishedSegment | None:
        """The open text; where the first segment goes on without any, that as it was begun."""
        if not self._text and (self._until_blank or not self._begun):
            return None
        text = self._begun + (self._text or "") + self._behind
        self._text, self._begun, self._behind, self._until_blank = None, "", "", False
        return self._finish(Text(text, self._slot.role)) if text else None

    def _finish(self, segment: Text | Media) -> FinishedSegment:
        finished = FinishedSegment(self._next, segment)
        self._before.append(segment)
        self._next += 1
        if self._slot.modality != "any" and self._later:
            self._leave_slot()
        return finished

    async def _of_media(self, event: Event) -> AsyncIterator[dict[str, Any] | FinishedSegment]:
        if isinstance(event, ImageBegun):
            self._begin("image")
            self._codes = []
            self._size = None if event.height is None else (event.height, event.width or 0)
            started = {
                "type": "segment.started", "segment": self._next, "kind": "image",
                "role": self._slot.role, "caption": self._words("image").get("alt", ""),
            }  # fmt: skip
            yield started | ({"height": event.height, "width": event.width} if self._size else {})
        elif isinstance(event, ImageRow):
            self.ids += event.codes.size
            self._codes.append(event.codes)
            rows = event.y + 1
            # The last ones come with the whole picture, which is decoded once.
            if rows % _ROWS == 0 and not self._is_whole(rows) and self._size is not None:
                pixels = await asyncio.to_thread(event.picture)
                yield await asyncio.to_thread(self._rows_so_far, rows, pixels)
        elif isinstance(event, ImageDone):
            rows = len(self._codes)
            if rows and rows % _ROWS == 0 and self._is_whole(rows):
                yield await asyncio.to_thread(self._rows_so_far, rows, event.image.pixels)
            yield self._finish(await asyncio.to_thread(self._drawn, event.image))
        elif isinstance(event, AudioBegun):
            self._begin("audio")
            yield {
                "type": "segment.started", "segment": self._next, "kind": "audio",
                "role": self._slot.role, "sample_rate": self._rate, **self._words("audio"),
            }  # fmt: skip
        elif isinstance(event, AudioFrame):
            self.ids += event.codes.size
        elif isinstance(event, AudioChunk):
            data = base64_of(pcm16(event.waveform, event.sample_rate))
            yield {
                "type": "segment.sound", "segment": self._next, "pcm16": data,
                "sample_rate": event.sample_rate,
            }  # fmt: skip
        elif isinstance(event, AudioDone):
            yield self._finish(event.audio)
        elif isinstance(event, MediaCodes):
            self.ids += event.codes.size
        elif isinstance(event, MediaDone):
            yield self._finish(event.segment)

    def _words(self, kind: str) -> dict[str, str]:
        """What stands before a picture or a sound that begins now, which may say what it is."""
        before = self._before[-1] if self._before else None
        if not isinstance(before, Text):
            return {}
        rows: list[Row] = [
            {"type": "text", "text": before.text, "role": before.role},
            {"type": kind},
        ]
        return described(rows, 1)

    def _is_whole(self, rows: int) -> bool:
        """Whether a picture has no more than so many rows of codes."""
        return self._size is not None and rows * self._stride == self._size[0]

    def _rows_so_far(self, rows: int, pixels: np.ndarray) -> dict[str, Any]:
        """rows: of codes, the last `_ROWS` of which are new."""
        assert self._size is not None
        return {
            "type": "segment.rows", "segment": self._next,
            "first": (rows - _ROWS) * self._stride, "rows": pixels.shape[0],
            "height": self._size[0], "width": self._size[1], "png": base64_of(encode_png(pixels)),
        }  # fmt: skip

    def _drawn(self, image: Image) -> Image:
        if self._redraw is None:
            return image
        if self._size is None:
            self.warnings.append(
                "the codes of this model's pictures lie in no rows, so its own decoder drew them"
            )
            return image
        return replace(image, pixels=self._redraw(np.stack(self._codes, axis=1)))
