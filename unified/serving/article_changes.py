"""PATCH /v1/articles/{id}/segments/{index}: a segment anew, of one's own, or another of its
alternatives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.serving.api_errors import ApiError, mistake
from unified.serving.article_answer import ArticleAnswer
from unified.serving.article_bodies import (
    AnyChange,
    ChooseBody,
    EditBody,
    RegenerateBody,
    ReplaceBody,
    change_body,
)
from unified.serving.article_desk import ArticleDesk, AskedChange
from unified.serving.article_draft import ArticleDraft, not_saved
from unified.serving.article_record import ArticleRecord, ArticleVersion, Row
from unified.serving.article_routes import changed, rates_of
from unified.serving.article_view import view_of
from unified.serving.media_given import picture_of, sound_of
from unified.serving.schema import read_body
from unified.serving.segment_events import SegmentEvents
from unified.serving.streamed import until_gone
from unified_base.text import quoted
from unified_data.document import Image, Media, Text

__all__ = ["change_routes"]


def change_routes(desk: ArticleDesk) -> APIRouter:
    """PATCH /v1/articles/{id}/segments/{index}."""
    router = APIRouter()

    @router.patch("/v1/articles/{id}/segments/{index}")
    async def change(id: str, index: str, request: Request) -> Response:
        if not (index.isascii() and index.isdigit() and len(index) < 7):
            raise ApiError(
                404, f"there is no segment {quoted(index)}", param="index",
                code="segment_not_found",
            )  # fmt: skip
        body: AnyChange = await read_body(request, change_body)
        await desk.load(id)  # before anybody else is kept away
        if isinstance(body, ChooseBody):
            return await _choose(desk, id, int(index), body)
        return await _Change(desk, id, int(index), request).answer(body)

    return router


async def _choose(desk: ArticleDesk, id: str, index: int, body: ChooseBody) -> Response:
    def choose(record: ArticleRecord) -> ArticleRecord:
        desk.segment(record, index)
        number = len(record.version.alternatives.get(index, ()))
        if body.alternative >= number:
            raise ApiError(
                400, f"alternative is {body.alternative}, but segment {index} has {number}",
                param="alternative",
            )  # fmt: skip
        return _pushed(record, record.version.choose(index, body.alternative))

    return await changed(desk, id, choose)


class _Change:
    """One change of a segment, which may ask the model."""

    def __init__(self, desk: ArticleDesk, id: str, index: int, request: Request) -> None:
        self._desk, self._id, self._index, self._request = desk, id, index, request

    async def answer(self, body: RegenerateBody | EditBody | ReplaceBody) -> Response:
        """The answer to a body. Raises ApiError."""
        self._desk.hold(self._id)
        is_let_go = False
        try:
            record = await self._desk.load(self._id)
            row = self._desk.segment(record, self._index)
            if isinstance(body, RegenerateBody):
                change = await self._desk.ask_segment(
                    record, self._index, body.block, body.temperature
                )
                answer = await self._written(record, change, body)
            else:
                own = await self._own(row, body)
                if body.then == "keep":
                    return await self._stored(record, own, body.action)
                change = await self._desk.ask_rest(record, self._index, own)
                answer = await self._written(record, change, body, own)
            is_let_go = True
        finally:
            if not is_let_go:
                self._desk.release(self._id)
        if body.stream:
            return answer.streamed()
        library = self._desk.library
        return await answer.whole(self._request, lambda: view_of(library, library.load(self._id)))

    async def _own(self, row: Row, body: EditBody | ReplaceBody) -> Text | Media:
        """A text, a picture or a sound of the user's own."""
        limits, kind, role = self._desk.service.limits, row["type"], row.get("role")
        if isinstance(body, EditBody):
            if kind != "text":
                raise ApiError(
                    400, f"segment {self._index} is {_a(kind)}; edit is of texts, replace of"
                    " pictures and sounds", param="action",
                )  # fmt: skip
            if not body.text.strip():
                raise ApiError(400, "text is empty", param="text")
            try:
                return Text(body.text, role)
            except ValueError as error:
                raise mistake(error, "text") from None
        if kind == "image":
            url = body.media
            if not url.startswith("data:"):
                if "://" in url[:40]:
                    raise ApiError(
                        400, f"media is {quoted(url)}, expected base64 or a data: URL; this server"
                        " fetches nothing", param="media",
                    )  # fmt: skip
                url = f"data:image/png;base64,{url}"  # what it is its content says
            return Image(await asyncio.to_thread(picture_of, url, "media", limits), role)
        if kind == "audio":
            _, _, data = body.media.rpartition(",") if body.media.startswith("data:") else (
                "", "", body.media)  # fmt: skip
            sound, _ = await asyncio.to_thread(sound_of, data, "media", limits)
            return replace(sound, role=role)
        raise ApiError(
            400, f"segment {self._index} is {_a(kind)}; replace is of pictures and sounds, edit of"
            " texts", param="action",
        )  # fmt: skip

    async def _stored(self, record: ArticleRecord, own: Text | Media, action: str) -> Response:
        """The article with a segment of the user's own in it, all else as it was."""
        library = self._desk.library
        try:
            (row,) = await asyncio.to_thread(library.rows, record.id, [own])
            version = record.version.with_segment(self._index, row, action)
            if action == "edit":  # what stood there is undone to, not chosen again
                version = replace(version, alternatives=record.version.alternatives)
            changed_record = _pushed(record, version)
            await asyncio.to_thread(library.save, changed_record)
        except ValueError as error:
            raise not_saved(error) from None
        view = await asyncio.to_thread(view_of, library, changed_record)
        return JSONResponse(view)

    async def _written(
        self,
        record: ArticleRecord,
        change: AskedChange,
        body: RegenerateBody | EditBody | ReplaceBody,
        own: Text | Media | None = None,
    ) -> ArticleAnswer:
        """What is being written by the model."""
        desk, index = self._desk, self._index
        service, library = desk.service, desk.library
        redraw = await asyncio.to_thread(desk.decoders.get, record.wishes.decoder)
        (seed,) = service.seeds(body.seed, 1)
        begin = service.begin(change.asked, [seed])
        generation = await until_gone(self._request, begin)
        try:
            draft = ArticleDraft(
                library, record, _compose(record.version, index, body, seed), index,
                grows=not change.single,
            )  # fmt: skip
            if own is not None:
                await draft.begin(await self._rows(own))
        except BaseException:
            await generation.close()
            raise
        notes = [*body.warnings(), *change.notes]
        opening = {
            "type": "article.changing", "id": record.id, "segment": index, "seed": seed,
            "action": body.action, "rest": not change.single, "notes": notes,
        }  # fmt: skip
        segments = SegmentEvents(
            change.asked.document, change.first, *rates_of(service.model), begun=change.begun,
            behind=change.behind, until_blank=change.until_blank, redraw=redraw,
        )  # fmt: skip
        return ArticleAnswer(
            service, generation, draft, segments, opening,
            status=record.version.status if change.single else "completed", warnings=notes,
            release=lambda: desk.release(record.id), completed=lambda events: None,
        )  # fmt: skip

    async def _rows(self, own: Text | Media) -> list[Row]:
        try:
            return await asyncio.to_thread(self._desk.library.rows, self._id, [own])
        except ValueError as error:
            raise not_saved(error) from None


def _compose(before: ArticleVersion, index: int, body: Any, seed: int) -> Any:
    """What makes the version after a change of what was written for it."""

    def single(rows: Sequence[Row]) -> ArticleVersion:
        return replace(before.with_segment(index, rows[0], body.action), seed=seed)

    def rest(rows: Sequence[Row]) -> ArticleVersion:
        alternatives = {at: rows for at, rows in before.alternatives.items() if at < index}
        return ArticleVersion(
            (*before.segments[:index], *rows), alternatives, action=body.action, seed=seed
        )

    return single if isinstance(body, RegenerateBody) else rest


def _pushed(record: ArticleRecord, version: ArticleVersion) -> ArticleRecord:
    return record.push(version, time.time())


def _a(kind: str) -> str:
    return {"image": "a picture", "audio": "a sound"}.get(kind, f"a {kind}")
