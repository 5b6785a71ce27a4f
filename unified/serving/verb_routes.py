"""POST /v1/verbs/{verb}: what a command asks of its model, answered as the command would do it.

This is not for other clients: the command and the server are of one version, and the command takes
the answer for its own only where the server has the model that it means (`ModelIdentity`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from unified.engine.events import Done, Event, ImageBegun, ImageDone, ImageRow
from unified.models.asking_models import AskedRequest
from unified.serving.api_errors import ApiError
from unified.serving.article_desk import ArticleDesk
from unified.serving.generation import Generation
from unified.serving.inline_document import inline_json
from unified.serving.schema import read_body
from unified.serving.service import Service
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.verb_body import VerbBody, asked_verb, verb_inputs
from unified.serving.wire_events import event_to_json
from unified_data.document import Document, Image, Text

__all__ = ["verb_routes"]

_LOOKING = 0.1  # share of the time that goes into decoding pictures that are looked at
Redraw = Callable[[np.ndarray], np.ndarray]


def verb_routes(desk: ArticleDesk) -> APIRouter:
    """POST /v1/verbs/{verb}."""
    router = APIRouter()
    service = desk.service

    @router.post("/v1/verbs/{verb}")
    async def verb(verb: str, request: Request) -> Response:
        name = asked_verb(verb)
        body: VerbBody = await read_body(request, VerbBody)
        _check_model(service, body)
        seeds = service.seeds(body.seed, body.number)
        inputs = await asyncio.to_thread(verb_inputs, body, service.limits)
        asked = await service.ask(name, name, **inputs)
        redraw = await asyncio.to_thread(desk.decoders.get, body.decoder)
        generation = await until_gone(request, service.begin(asked, seeds))
        return StreamedResponse(
            as_events(_events(service, generation, asked, redraw, body.look), named=False),
            "text/event-stream",
            on_end=generation.close,
            on_gone=service.metrics.client_left,
            stall_seconds=service.limits.stall_seconds,
        )

    return router


def _check_model(service: Service, body: VerbBody) -> None:
    """Raises ApiError (409) where this server has another model than the one that is meant."""
    difference = (
        "it does not say which model it has"
        if service.identity is None
        else service.identity.difference(body.identity, (service.name,))
    )
    if difference is not None:
        raise ApiError(409, difference, param="opening", code="other_model")


async def _events(
    service: Service, generation: Generation, asked: AskedRequest, redraw: Redraw | None, look: bool
) -> AsyncGenerator[dict[str, Any], None]:
    task = asked.task
    yield {
        "type": "asked", "notes": asked.notes, "outlook": asked.outlook._asdict(),
        "text": asked.inputs.text,
        "voice": asked.inputs.voice or (None if task is None else task.voice),
        "vocabulary": service.model.vocabulary.hash,
    }  # fmt: skip
    drawing = [_Drawing(redraw) for _ in generation.seeds]
    glance = _Glance() if look else None
    async for number, event in generation.events():
        event = replace(event, row=number)
        event = await drawing[number].add(event)
        if isinstance(event, Done):
            yield await asyncio.to_thread(_answer, asked, event)
            continue
        pixels = None
        if glance is not None and isinstance(event, ImageRow):
            pixels = await glance.at(event)
        if (value := event_to_json(event, pixels)) is not None:
            yield value
    yield {"type": "completed"}


def _answer(asked: AskedRequest, done: Done) -> dict[str, Any]:
    """A document that is complete, and what is the answer in it."""
    response = asked.response(done.document)
    answer = response.answer
    is_last = answer is response.document.segments[-1]
    return {
        "type": "answer", "row": done.row, "document": inline_json(response.document),
        "notes": asked.finish(done.document),
        # of a text, what stands behind a thought
        "text": answer.text if isinstance(answer, Text) and not is_last else None,
        "thought": response.thought, "known": response.known,
    }  # fmt: skip


class _Drawing:
    """The pictures of one document, decoded by another decoder than the model's own."""

    def __init__(self, redraw: Redraw | None) -> None:
        self._redraw = redraw
        self._codes: list[np.ndarray] = []
        self._pictures: list[Image] = []

    async def add(self, event: Event) -> Event:
        """An event, its pictures decoded anew."""
        if self._redraw is None:
            return event
        if isinstance(event, ImageBegun):
            self._codes = []
        elif isinstance(event, ImageRow):
            self._codes.append(event.codes)
        elif isinstance(event, ImageDone):
            pixels = await asyncio.to_thread(self._redraw, np.stack(self._codes, axis=1))
            image = replace(event.image, pixels=pixels)
            self._pictures.append(image)
            return replace(event, image=image)
        elif isinstance(event, Done):
            return replace(event, document=self._drawn(event.document))
        return event

    def _drawn(self, document: Document) -> Document:
        """The pictures that were sampled are the last ones of the document."""
        segments, pictures = list(document.segments), list(self._pictures)
        for at in range(len(segments) - 1, -1, -1):
            segment = segments[at]
            if pictures and isinstance(segment, Image):
                segments[at] = replace(segment, pixels=pictures.pop().pixels)
        return Document(tuple(segments))


class _Glance:
    """Decodes pictures that are under way, seldom enough not to slow the sampling down."""

    def __init__(self) -> None:
        self._next = 0.0

    async def at(self, event: ImageRow) -> np.ndarray | None:
        """The picture so far, uint8 (H, W, 3); None: not now."""
        begun = perf_counter()
        if begun < self._next and event.y:  # the first of each picture is always there
            return None
        pixels = await asyncio.to_thread(event.picture)
        done = perf_counter()
        self._next = done + (done - begun) * (1 / _LOOKING - 1)
        return pixels
