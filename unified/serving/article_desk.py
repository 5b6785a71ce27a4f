"""Where articles are written and changed: what a request asks of the model, and what becomes of it.

Everything that is sampled is a document with slots: a segment anew is its slot behind what stands
before it; going on from a place is an "any" slot there. What stands behind a slot is not seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from unified.models.asking_models import AskedRequest, fit_image
from unified.sequence.preprocess import fit_sound
from unified.serving.api_errors import ApiError, mistake
from unified.serving.article_library import ArticleLibrary, NoSuchArticleError
from unified.serving.article_record import ArticleRecord, ArticleWishes, Row
from unified.serving.article_view import blocks_of
from unified.serving.picture_decoders import PictureDecoders
from unified.serving.service import Service
from unified_data.document import Audio, Document, Image, Media, Segment, Slot, Text

__all__ = ["ArticleDesk", "AskedChange"]


@dataclass(frozen=True, eq=False)
class AskedChange:
    """What a change asks of the model.

    Attributes:
        asked: the request.
        first: index of the segment that is written first.
        begun, behind: text that this segment begins with, and that stands behind what is written.
        until_blank: whether it is over at an empty line.
    single: whether it is the only one.
        notes: of what the model is given otherwise than it is.
    """

    asked: AskedRequest
    first: int
    begun: str = ""
    behind: str = ""
    until_blank: bool = False
    single: bool = False
    notes: tuple[str, ...] = ()


class ArticleDesk:
    """A service, its library, and the articles that are being changed."""

    def __init__(self, service: Service, library: ArticleLibrary) -> None:
        self.service, self.library = service, library
        self.decoders = PictureDecoders(service.model)
        self._busy: set[str] = set()
        self._lengths: dict[tuple[Any, ...], int] = {}  # ids of articles written lately

    # Articles.

    async def load(self, id: str, deleted: bool = False) -> ArticleRecord:
        """The article of an id. Raises ApiError (404) where there is none."""
        try:
            return await asyncio.to_thread(self.library.load, id, deleted)
        except NoSuchArticleError as error:
            raise ApiError(404, str(error), param="id", code="article_not_found") from None
        except ValueError as error:
            raise ApiError(
                500, f"the article cannot be read: {error}", code="article_damaged"
            ) from None

    def hold(self, id: str) -> None:
        """Keep others from changing an article until `release`. Raises ApiError (409) where another
        request changes it now."""
        if id in self._busy:
            raise ApiError(
                409, f"article {id} is being changed by another request; wait for its end",
                code="article_busy", headers={"Retry-After": "1"},
            )  # fmt: skip
        self._busy.add(id)

    def release(self, id: str) -> None:
        """Let others change an article."""
        self._busy.discard(id)

    @contextmanager
    def held(self, id: str) -> Iterator[None]:
        """`hold` while the block runs."""
        self.hold(id)
        try:
            yield
        finally:
            self.release(id)

    # What is asked of the model.

    async def ask(
        self, prompt: str, wishes: ArticleWishes, settings: Mapping[str, Any] | None = None
    ) -> AskedRequest:
        """What an article's prompt and wishes ask. Raises ApiError."""
        self.decoders.check(wishes.decoder)
        try:
            return await self.service.ask(
                "write", "prompt", text=prompt, images=wishes.pictures,
                sounds=None if wishes.narration else 0, language=wishes.language,
                settings=settings,
            )  # fmt: skip
        except ApiError as error:
            if error.message.startswith("language is"):
                error.param = "language"
            raise

    async def ask_segment(
        self, record: ArticleRecord, index: int, block: int | None, temperature: float | None
    ) -> AskedChange:
        """A segment anew, or a block of a text. Raises ApiError."""
        row = self.segment(record, index)
        settings = None if temperature is None else {f"{row['type']}.temperature": temperature}
        asked = await self.ask(record.prompt, record.wishes, settings)
        before = await self._context(record, index, asked)
        role = row.get("role")
        if block is not None:
            change = self._block(row, index, block, asked, before)
            most = asked.sampling.max_text_ids
            bound = await self.service.bound(change.asked, most, "max_text_ids")
            return replace(change, asked=bound)
        slot, behind_it = Slot(row["type"], role=role), list[Segment]()
        after = record.version.segments[index + 1 : index + 2]
        if row["type"] == "image":
            answer = asked.document.segments[-1]
            assert isinstance(answer, Slot)
            slot = replace(slot, height=answer.height, width=answer.width)
        elif row["type"] == "text" and after:  # where the text ends
            behind_it = await self._segments(record, after)
            behind_it, _ = await asyncio.to_thread(self._fitted, behind_it, asked)
        document = Document((*before, slot, *behind_it))
        asked = replace(asked, document=document, finish=_nothing)
        return AskedChange(asked, index, single=True)

    def _block(
        self, row: Row, index: int, block: int, asked: AskedRequest, before: list[Segment]
    ) -> AskedChange:
        """A block of a text anew."""
        if row["type"] != "text":
            raise ApiError(
                400, f"block is {block}, but segment {index} is no text; leave it out",
                param="block",
            )  # fmt: skip
        text, role, blocks = row["text"], row.get("role"), blocks_of(row["text"])
        if block >= len(blocks):
            raise ApiError(
                400, f"block is {block}, expected less than {len(blocks)}", param="block"
            )
        begun, behind = text[: blocks[block]["start"]], text[blocks[block]["stop"] :]
        if begun.strip():
            # Space at its end would be ids that no text goes on behind: the model writes it.
            before.append(Text(begun.rstrip(), role))
        # An "any" slot goes on with a text; formats may have a marker between two texts.
        answer = asked.document.segments[-1]
        assert isinstance(answer, Slot)
        slot = replace(answer, modality="any", role=role, num_images=None, num_audios=None)
        document = Document((*before, slot))
        asked = replace(asked, document=document, finish=_nothing)
        return AskedChange(asked, index, begun, behind, until_blank=True, single=True)

    async def ask_rest(self, record: ArticleRecord, index: int, own: Text | Media) -> AskedChange:
        """All that follows a segment of the user's own, which stands at an index. Raises
        ApiError."""
        asked = await self.ask(record.prompt, record.wishes)
        before = await self._context(record, index, asked)
        if isinstance(own, Text):
            own = replace(own, text=own.text.rstrip())  # space at its end the model writes
        fitted, own_notes = await asyncio.to_thread(self._fitted, [own], asked)
        before += fitted
        slot = asked.document.segments[-1]
        assert isinstance(slot, Slot)
        if slot.modality == "any":
            written = [segment for segment in before if segment.role != "prompt"]
            slot = replace(
                slot,
                num_images=_left(slot.num_images, Image, written),
                num_audios=_left(slot.num_audios, Audio, written),
            )
        asked = replace(asked, document=Document((*before, slot)))
        if isinstance(own, Text):
            return AskedChange(asked, index, own.text)
        return AskedChange(asked, index + 1, notes=own_notes)

    def segment(self, record: ArticleRecord, index: int) -> dict[str, Any]:
        """A segment that can be changed. Raises ApiError for the prompt, and where there is
        none."""
        rows = record.version.segments
        if not 0 <= index < len(rows):
            raise ApiError(
                404, f"there is no segment {index}, expected 0 to {len(rows) - 1}", param="index",
                code="segment_not_found",
            )  # fmt: skip
        if rows[index].get("role") == "prompt":
            raise ApiError(
                400, f"segment {index} is the prompt; another prompt is another article",
                param="index",
            )  # fmt: skip
        return rows[index]

    async def document(self, record: ArticleRecord) -> Document:
        """The document of an article's version. Raises ApiError where its media are lost."""
        return Document(tuple(await self._segments(record, record.version.segments)))

    async def _segments(self, record: ArticleRecord, rows: Sequence[Any]) -> list[Segment]:
        try:
            document = await asyncio.to_thread(self.library.document, record.id, rows)
        except ValueError as error:
            raise ApiError(
                500, f"the article cannot be read: {error}", code="article_damaged"
            ) from None
        return list(document.segments)

    async def _context(
        self, record: ArticleRecord, index: int, asked: AskedRequest
    ) -> list[Segment]:
        """What stands before a segment, as the model takes it. Whoever brought media was told
        then what was changed."""
        segments = await self._segments(record, record.version.segments[:index])
        return (await asyncio.to_thread(self._fitted, segments, asked))[0]

    def _fitted(
        self, segments: Sequence[Segment], asked: AskedRequest
    ) -> tuple[list[Segment], tuple[str, ...]]:
        """Media as the model's tokenizers take them. Raises ApiError where it takes none."""
        fitted: list[Segment] = []
        notes: tuple[str, ...] = ()
        sequencer, task = self.service.model.sequencer, asked.task
        for segment in segments:
            try:
                if isinstance(segment, Image):
                    assert task is not None
                    tokenizer = sequencer.tokenizer("image")
                    pixels, changes = fit_image(task, segment.pixels, tokenizer)
                    segment = replace(segment, pixels=pixels)
                    notes = (*notes, *changes)
                elif isinstance(segment, Audio):
                    rate = sequencer.tokenizer("audio").sample_rate
                    waveform, conversions = fit_sound(segment.waveform, segment.sample_rate, rate)
                    segment = replace(segment, waveform=waveform, sample_rate=rate)
                    notes = (*notes, *conversions)
            except ValueError as error:
                raise mistake(error) from None
            fitted.append(segment)
        return fitted, notes

    # How long articles are.

    def expected_ids(self, wishes: ArticleWishes) -> int | None:
        """Ids of the last article with such wishes; None: there was none."""
        return self._lengths.get((wishes.pictures, wishes.narration))

    def note_length(self, wishes: ArticleWishes, ids: int) -> None:
        """An article with such wishes has so many ids."""
        self._lengths[wishes.pictures, wishes.narration] = ids


def _left(number: int | None, kind: type[Media], written: Sequence[Segment]) -> int | None:
    """How many media of a kind are still wished for."""
    if number is None:
        return None
    return max(0, number - sum(isinstance(segment, kind) for segment in written))


def _nothing(document: Document) -> tuple[str, ...]:
    return ()
