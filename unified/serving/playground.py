"""/v1/playground: documents with slots filled, their ids, and what the grammar allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.engine.events import Done
from unified.models.asking_models import AskedRequest
from unified.sequence.inspect import inspect_document
from unified.serving.allowed_ids import allowed_next, ids_of
from unified.serving.api_errors import ApiError, mistake
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_routes import rates_of
from unified.serving.generation import Generation
from unified.serving.inline_document import document_of, inline_json
from unified.serving.media_written import base64_of, encode_sound
from unified.serving.schema import ApiBody, read_body
from unified.serving.segment_events import FinishedSegment, SegmentEvents
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified_base.images import encode_png
from unified_data.document import Audio, Document, Image, Text

__all__ = ["playground_routes"]


class CompleteBody(ApiBody):
    """A document whose slots are filled, `samples` times with seed, seed + 1, ..."""

    document: dict[str, Any]
    samples: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    guidance: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    decoder: str = "vq"


class InspectBody(ApiBody):
    """A document, or the id of an article."""

    document: dict[str, Any] | None = None
    article: str | None = None


class AllowedBody(InspectBody):
    """position: ids that stand before; None: all of the document's, up to its first slot."""

    position: Annotated[int, Field(ge=0)] | None = None


def playground_routes(desk: ArticleDesk) -> APIRouter:
    """POST /v1/playground/complete, inspect and allowed."""
    router = APIRouter()
    service = desk.service

    @router.post("/v1/playground/complete")
    async def complete(request: Request) -> Response:
        body: CompleteBody = await read_body(request, CompleteBody)
        seeds = service.seeds(body.seed, body.samples)
        document = await _given(desk, body.document, None)
        redraw = await asyncio.to_thread(desk.decoders.get, body.decoder)
        ask = partial(
            service.model.request_document, document, guidance=body.guidance,
            temperature=body.temperature, top_k=body.top_k, top_p=body.top_p,
        )  # fmt: skip
        try:
            asked = await asyncio.to_thread(ask)
        except ValueError as error:
            raise mistake(error, "document") from None
        generation = await until_gone(request, service.begin(asked, seeds))
        first = document.slots[0]
        streams = [
            SegmentEvents(document, first, *rates_of(service.model), redraw=redraw) for _ in seeds
        ]
        return StreamedResponse(
            as_events(_events(generation, asked, streams)),
            "text/event-stream",
            on_end=generation.close,
            on_gone=service.metrics.client_left,
            stall_seconds=service.limits.stall_seconds,
        )

    @router.post("/v1/playground/inspect")
    async def inspect(request: Request) -> Response:
        body: InspectBody = await read_body(request, InspectBody)
        document = await _given(desk, body.document, body.article)
        return JSONResponse(await _looked(_inspected, desk, document))

    @router.post("/v1/playground/allowed")
    async def allowed(request: Request) -> Response:
        body: AllowedBody = await read_body(request, AllowedBody)
        document = await _given(desk, body.document, body.article)
        return JSONResponse(
            await _looked(
                lambda desk, document: allowed_next(
                    document, desk.service.model.sequencer, desk.service.model.sampling,
                    body.position,
                ),
                desk, document,
            )
        )  # fmt: skip

    return router


async def _given(desk: ArticleDesk, value: Any, article: str | None) -> Document:
    if (value is None) == (article is None):
        raise ApiError(400, "expected document or article, and not both", param="document")
    if article is not None:
        return await desk.document(await desk.load(article))
    most = desk.service.limits.max_parts
    return await asyncio.to_thread(document_of, value, "document", most)


async def _looked(look: Any, desk: ArticleDesk, document: Document) -> Any:
    try:
        return await asyncio.to_thread(look, desk, document)
    except ValueError as error:
        raise mistake(error, "document") from None


def _inspected(desk: ArticleDesk, document: Document) -> dict[str, Any]:
    """What `unified inspect --json` tells, and every id by itself."""
    sequencer = desk.service.model.sequencer
    inspection = inspect_document(document, sequencer)
    ids = [id for span in inspection.spans for id in span.ids]
    return {**inspection.to_json(), "ids": ids_of(ids, sequencer)}


async def _events(
    generation: Generation, asked: AskedRequest, streams: list[SegmentEvents]
) -> AsyncGenerator[dict[str, Any], None]:
    yield {"type": "playground.created", "seeds": generation.seeds, "notes": list(asked.notes)}
    try:
        async for number, event in generation.events():
            segments = streams[number]
            async for told in segments.add(event):
                if isinstance(told, FinishedSegment):
                    told = await asyncio.to_thread(_done, told)
                yield {**told, "sample": number}
            if isinstance(event, Done):
                document = await asyncio.to_thread(inline_json, segments.document)
                yield {
                    "type": "sample.completed", "sample": number, "document": document,
                    "warnings": segments.warnings, "seconds": segments.seconds,
                    "ids": segments.ids, "seed": generation.seeds[number],
                }  # fmt: skip
        yield {
            "type": "playground.completed", "seconds": max(each.seconds for each in streams),
            "ids": sum(each.ids for each in streams),
        }  # fmt: skip
    except ApiError as error:
        yield {"type": "error", "message": error.message, "code": error.code}


def _done(finished: FinishedSegment) -> dict[str, Any]:
    segment = finished.segment
    told: dict[str, Any] = {"type": "segment.done", "segment": finished.index}
    if isinstance(segment, Text):
        return {**told, "kind": "text", "text": segment.text}
    if isinstance(segment, Image):
        height, width = segment.pixels.shape[:2]
        picture = {"data": base64_of(encode_png(segment.pixels)), "width": width, "height": height}
        return {**told, "kind": "image", "image": picture}
    if isinstance(segment, Audio):
        rate = segment.sample_rate
        wav = base64_of(encode_sound(segment.waveform, rate, "wav"))
        seconds = round(segment.waveform.shape[1] / rate, 3)
        return {**told, "kind": "audio", "audio": {"data": wav, "seconds": seconds}}
    return {**told, "kind": segment.modality, "noun": segment.noun}
