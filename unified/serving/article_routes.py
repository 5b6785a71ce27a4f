"""/v1/articles: articles that are written, listed, read, moved through their versions, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.serving.api_errors import ApiError
from unified.serving.article_answer import ArticleAnswer
from unified.serving.article_bodies import ArticleRequestBody, ExportBody
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_draft import ArticleDraft, not_saved
from unified.serving.article_export import exported
from unified.serving.article_media import media_answer
from unified.serving.article_record import (
    ARTICLE_ID,
    ArticleRecord,
    ArticleVersion,
    ArticleWishes,
)
from unified.serving.article_view import summary_of, view_of
from unified.serving.inline_document import inline_json
from unified.serving.schema import read_body
from unified.serving.segment_events import SegmentEvents
from unified.serving.streamed import until_gone
from unified_base.text import quoted

__all__ = ["article_routes", "changed", "check_query"]

_MOST_LISTED = 200
_LISTED = 50
_MOST_QUERY = 1_000


def article_routes(desk: ArticleDesk) -> APIRouter:
    """POST and GET /v1/articles, and what can be done to one as a whole."""
    router = APIRouter()
    library = desk.library

    @router.post("/v1/articles")
    async def write(request: Request) -> Response:
        body: ArticleRequestBody = await read_body(request, ArticleRequestBody)
        return await _write(desk, request, body)

    @router.get("/v1/articles")
    async def articles(request: Request) -> Response:
        query = check_query(request, ("q", "limit", "before"))
        words, limit = query.get("q", ""), query.get("limit", str(_LISTED))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _MOST_LISTED):
            raise ApiError(
                400, f"limit is {quoted(limit)}, expected 1 to {_MOST_LISTED}", param="limit"
            )
        before = query.get("before")
        if before is not None and not ARTICLE_ID.fullmatch(before):
            raise ApiError(400, f"before is {quoted(before)}, expected an article's id",
                           param="before")  # fmt: skip
        if len(words) > _MOST_QUERY:
            raise ApiError(400, f"q has more than {_MOST_QUERY} characters", param="q")
        rows, more = await asyncio.to_thread(library.page, words, int(limit), before)
        return JSONResponse({"articles": [summary_of(row) for row in rows], "more": more})

    @router.get("/v1/articles/{id}")
    async def article(id: str, request: Request) -> Response:
        check_query(request, ())
        return await _viewed(desk, await desk.load(id))

    @router.get("/v1/articles/{id}/document")
    async def document(id: str) -> Response:
        segments = await desk.document(await desk.load(id))
        return JSONResponse(await asyncio.to_thread(inline_json, segments))

    @router.get("/v1/articles/{id}/media/{name}")
    async def media(id: str, name: str, request: Request) -> Response:
        check_query(request, ("v", "alternative"))
        return await media_answer(library, await desk.load(id), name, request)

    @router.delete("/v1/articles/{id}")
    async def delete(id: str) -> Response:
        now = time.time()
        with desk.held(id):
            record = replace(await desk.load(id), deleted=now)
            await _save(desk, record)
        return JSONResponse({"deleted": True, "id": id, "undo_until": now + library.keep_deleted})

    @router.post("/v1/articles/{id}/restore")
    async def restore(id: str) -> Response:
        with desk.held(id):
            record = replace(await desk.load(id, deleted=True), deleted=None)
            await _save(desk, record)
        return await _viewed(desk, record)

    @router.post("/v1/articles/{id}/undo")
    async def undo(id: str) -> Response:
        return await _move(desk, id, -1)

    @router.post("/v1/articles/{id}/redo")
    async def redo(id: str) -> Response:
        return await _move(desk, id, 1)

    @router.post("/v1/articles/{id}/duplicate")
    async def duplicate(id: str) -> Response:
        record = await desk.load(id)
        try:
            copy = await asyncio.to_thread(library.duplicate, record)
        except ValueError as error:
            raise not_saved(error) from None
        return await _viewed(desk, copy)

    @router.post("/v1/articles/{id}/export")
    async def export(id: str, request: Request) -> Response:
        body: ExportBody = await read_body(request, ExportBody)
        record = await desk.load(id)
        segments = await desk.document(record)
        return await until_gone(request, exported(segments, record, desk.service.name, body.format))

    return router


async def _write(desk: ArticleDesk, request: Request, body: ArticleRequestBody) -> Response:
    service, library = desk.service, desk.library
    service.check_model(body.model)
    wishes = ArticleWishes(body.pictures, body.narration, body.language, body.decoder)
    asked = await desk.ask(body.prompt, wishes)
    redraw = await asyncio.to_thread(desk.decoders.get, wishes.decoder)
    (seed,) = service.seeds(body.seed, 1)
    generation = await until_gone(request, service.begin(asked, [seed]))
    notes = [*body.warnings(), *asked.notes]
    first = asked.document.slots[0]
    try:
        prompt = await asyncio.to_thread(library.rows, "", asked.document.segments[:first])
        empty = ArticleVersion(tuple(prompt), status="writing", seed=seed)
        record = await asyncio.to_thread(library.create, body.prompt, wishes, seed, empty)
    except ValueError as error:
        await generation.close()
        raise not_saved(error) from None
    except BaseException:
        await generation.close()
        raise
    draft = ArticleDraft(
        library, record, lambda rows: replace(empty, segments=(*prompt, *rows)), first,
        is_begun=True,
    )  # fmt: skip
    opening = {
        "type": "article.created", "id": record.id, "seed": seed, "prompt": body.prompt,
        "created": record.created, "notes": notes,
    }  # fmt: skip
    desk.hold(record.id)
    model = service.model
    segments = SegmentEvents(
        asked.document, first, *rates_of(model), redraw=redraw,
        expected_ids=desk.expected_ids(wishes),
    )  # fmt: skip
    answer = ArticleAnswer(
        service, generation, draft, segments, opening, status="completed", warnings=notes,
        release=lambda: desk.release(record.id),
        completed=lambda events: desk.note_length(wishes, events.ids),
    )  # fmt: skip
    if body.stream:
        return answer.streamed()
    return await answer.whole(request, lambda: view_of(library, draft.record))


def rates_of(model: Any) -> tuple[int, int]:
    """(pixels of a row of codes, samples a second) of a model; 1 for what it does not have."""
    pictures, sounds = model.image_tokenizer, model.audio_tokenizer
    return (
        1 if pictures is None else int(pictures.stride),
        1 if sounds is None else int(sounds.sample_rate),
    )


async def changed(
    desk: ArticleDesk, id: str, change: Callable[[ArticleRecord], ArticleRecord]
) -> Response:
    """An article after a change that asks nothing of the model, stored."""
    with desk.held(id):
        record = change(await desk.load(id))
        await _save(desk, record)
    return await _viewed(desk, record)


async def _move(desk: ArticleDesk, id: str, step: int) -> Response:
    def move(record: ArticleRecord) -> ArticleRecord:
        if not (record.can_undo if step < 0 else record.can_redo):
            verb = "undo" if step < 0 else "redo"
            raise ApiError(409, f"there is nothing to {verb}", code=f"nothing_to_{verb}")
        return record.move(step, time.time())

    return await changed(desk, id, move)


async def _save(desk: ArticleDesk, record: ArticleRecord) -> None:
    try:
        await asyncio.to_thread(desk.library.save, record)
    except ValueError as error:
        raise not_saved(error) from None


async def _viewed(desk: ArticleDesk, record: ArticleRecord) -> Response:
    return JSONResponse(await asyncio.to_thread(view_of, desk.library, record))


def check_query(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters of an address. Raises ApiError for one that is not known, or stands twice."""
    for name, _ in request.query_params.multi_items():
        if name not in names:
            expected = f"expected some of {', '.join(names)}" if names else "expected none"
            raise ApiError(
                400, f"unknown parameter {quoted(name)}; {expected}", param=name,
                code="unknown_parameter",
            )  # fmt: skip
        if len(request.query_params.getlist(name)) > 1:
            raise ApiError(400, f"{name} stands twice", param=name)
    return dict(request.query_params)
