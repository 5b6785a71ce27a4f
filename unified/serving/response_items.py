"""Output items of a response in reading order, and the events that tell of them as they grow.

A message holds texts and sounds; a picture is an item of its own between messages. The events are
those of the schema's `ResponseStreamEvent`; sounds have `response.audio.*` with the item, the
output index and the content index beside.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from unified.engine.events import (
    AudioBegun,
    AudioChunk,
    AudioDone,
    Event,
    ImageBegun,
    ImageDone,
    ImageRow,
    TextPiece,
)
from unified.sequence.sequencer import Sequencer
from unified.serving.answer_parts import AnswerParts
from unified.serving.media_written import PictureFile, base64_of, encode_sound, pcm16
from unified.serving.partial_pictures import PartialPictures
from unified.serving.told_logprobs import told_logprobs
from unified.tasks.size_rule import write_size

__all__ = ["ResponseItems"]

_PICTURE = "response.image_generation_call"


class ResponseItems:
    """The items of one document.

    output: the items so far, as the schema has them.
    """

    def __init__(
        self,
        file: PictureFile,
        partial: PartialPictures | None,
        sound: str,
        sequencer: Sequencer,
    ) -> None:
        """
        Args:
            file: how pictures are written.
            partial: which partial pictures are told; None: none.
            sound: how whole sounds are written; their deltas are raw samples.
            sequencer: by which ids with log probabilities are named.
        """
        self._sequencer = sequencer
        self.output: list[dict[str, Any]] = []
        self._file, self._partial, self._sound = file, partial, sound
        self._is_open = False  # whether the last item, a message, may get further parts
        self._in_text = False  # and whether its last part may get further words

    async def add(self, event: Event, answer: AnswerParts) -> AsyncIterator[dict[str, Any]]:
        """The events of what has come. answer: to which it was added already."""
        if isinstance(event, TextPiece):
            for told in self._words(event):
                yield told
        elif isinstance(event, ImageBegun):
            for told in self._picture_begun(event):
                yield told
        elif isinstance(event, ImageRow) and self._partial is not None:
            if (rows := await self._partial.at(event)) is not None:
                yield self._told(
                    f"{_PICTURE}.partial_image",
                    partial_image_index=self._partial.index,
                    partial_image_b64=base64_of(rows),
                    output_format=self._file.format,
                    size=self.output[-1]["size"],
                    background="opaque",
                )
        elif isinstance(event, ImageDone):
            data = await asyncio.to_thread(self._file.encode, event.image.pixels)
            height, width = event.image.pixels.shape[:2]
            item = self.output[-1]
            item |= {
                "result": base64_of(data),
                "status": "completed",
                "size": write_size((width, height)),
            }
            yield self._told(f"{_PICTURE}.completed")
            yield self._item_done()
        elif isinstance(event, AudioBegun):
            for told in self._sound_begun():
                yield told
        elif isinstance(event, AudioChunk):
            samples = base64_of(pcm16(event.waveform, event.sample_rate))
            yield self._in_part("response.audio.delta", delta=samples)
        elif isinstance(event, AudioDone):
            part = self.output[-1]["content"][-1]
            sound = event.audio
            data = await asyncio.to_thread(
                encode_sound, sound.waveform, sound.sample_rate, self._sound
            )
            transcript = answer.sounds[-1].transcript
            part |= {
                "data": base64_of(data), "transcript": transcript, "sample_rate": sound.sample_rate,
            }  # fmt: skip
            yield self._in_part("response.audio.done")
            yield self._in_part("response.audio.transcript.delta", delta=transcript)
            yield self._in_part("response.audio.transcript.done")
            yield self._in_part("response.content_part.done", part=dict(part))

    def end(self, status: str) -> Iterator[dict[str, Any]]:
        """Close what is open. status: "completed", or "incomplete" where a budget ended it."""
        yield from self._close(status)

    # Texts and sounds.

    def _words(self, piece: TextPiece) -> Iterator[dict[str, Any]]:
        yield from self._open_message()
        if not self._in_text:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self.output[-1]["content"].append(part)
            self._in_text = True
            yield self._in_part("response.content_part.added", part=dict(part))
        logprobs = told_logprobs(piece.scores, self._sequencer)
        part = self.output[-1]["content"][-1]
        part["text"] += piece.text
        part["logprobs"] = [*part["logprobs"], *logprobs]
        yield self._in_part("response.output_text.delta", delta=piece.text, logprobs=logprobs)

    def _sound_begun(self) -> Iterator[dict[str, Any]]:
        yield from self._open_message()
        yield from self._text_done()
        part = {"type": "output_audio", "data": "", "transcript": "", "format": self._sound}
        self.output[-1]["content"].append(part)
        yield self._in_part("response.content_part.added", part=dict(part))

    def _open_message(self) -> Iterator[dict[str, Any]]:
        if self._is_open:
            return
        self._is_open = True
        message = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        self.output.append(message)
        yield self._told("response.output_item.added", item={**message, "content": []})

    def _text_done(self) -> Iterator[dict[str, Any]]:
        if not self._in_text:
            return
        self._in_text = False
        part = self.output[-1]["content"][-1]
        yield self._in_part(
            "response.output_text.done", text=part["text"], logprobs=part["logprobs"]
        )
        yield self._in_part("response.content_part.done", part=dict(part))

    def _close(self, status: str) -> Iterator[dict[str, Any]]:
        if not self._is_open:
            return
        yield from self._text_done()
        self._is_open = False
        self.output[-1]["status"] = status
        yield self._item_done()

    # Pictures.

    def _picture_begun(self, event: ImageBegun) -> Iterator[dict[str, Any]]:
        yield from self._close("completed")
        known = event.width is not None and event.height is not None
        item = {
            "id": f"ig_{uuid.uuid4().hex}",
            "type": "image_generation_call",
            "status": "in_progress",
            "result": None,
            "action": "generate",
            "background": "opaque",
            "output_format": self._file.format,
            "quality": "auto",
            "size": f"{event.width}x{event.height}" if known else None,
        }
        self.output.append(item)
        if self._partial is not None:
            self._partial.begin(event)
        yield self._told("response.output_item.added", item=dict(item))
        yield self._told(f"{_PICTURE}.in_progress")
        item["status"] = "generating"
        yield self._told(f"{_PICTURE}.generating")

    # Events.

    def _told(self, kind: str, **fields: Any) -> dict[str, Any]:
        """An event about the last item."""
        last = len(self.output) - 1
        about = {} if "item" in fields else {"item_id": self.output[last]["id"]}
        return {"type": kind, "output_index": last, **about, **fields}

    def _in_part(self, kind: str, **fields: Any) -> dict[str, Any]:
        """An event about the last part of the last item."""
        return self._told(kind, content_index=len(self.output[-1]["content"]) - 1, **fields)

    def _item_done(self) -> dict[str, Any]:
        return self._told("response.output_item.done", item=dict(self.output[-1]))
