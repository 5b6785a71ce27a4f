"""POST /v1/responses: text, pictures and sound in reading order, whole or as they are written."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.models.asking_models import AskedRequest
from unified.serving.answer_parts import AnswerParts, all_warnings
from unified.serving.api_errors import ApiError
from unified.serving.chat_body import SpokenAs
from unified.serving.conversation_given import choose_verb, without_effect
from unified.serving.generation import Generation
from unified.serving.media_written import PictureFile
from unified.serving.partial_pictures import PartialPictures
from unified.serving.response_body import ResponseBody, response_messages
from unified.serving.response_items import ResponseItems
from unified.serving.schema import read_body
from unified.serving.service import Service
from unified.serving.speaking import rate_note
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.told_logprobs import check_scored
from unified.serving.usage import IdCounts

__all__ = ["responding_routes"]


def responding_routes(service: Service) -> APIRouter:
    """POST /v1/responses."""
    router = APIRouter()

    @router.post("/v1/responses")
    async def respond(request: Request) -> Response:
        body: ResponseBody = await read_body(request, ResponseBody)
        service.check_model(body.model)
        answer = await _asked(service, body)
        if body.stream:
            return await answer.streamed(request)
        return JSONResponse(await until_gone(request, answer.whole()))

    return router


async def _asked(service: Service, body: ResponseBody) -> _Answer:
    """What a body asks for, checked. Raises ApiError."""
    wanted, drawing = body.wanted, body.drawing
    spoken = body.audio or SpokenAs()
    warnings = body.warnings()
    if body.audio is not None and "audio" not in wanted:
        warnings.append("audio has no effect here: it is not among the modalities")
    if body.tools and "image" not in wanted:
        warnings.append("tools has no effect here: no pictures are wanted")
    if body.top_logprobs and not body.include:
        warnings.append("top_logprobs has no effect here: include asks for no logprobs")
    if drawing is not None:
        drawing.file.check("tools[0].output_compression")
    messages, notes = await asyncio.to_thread(response_messages, body, service.limits)
    asking = choose_verb(messages, wanted, "input")
    inputs = dict(asking.inputs)
    if asking.verb in ("draw", "write") and drawing is not None and drawing.size != "auto":
        service.check_size(asking.verb, drawing.size)
        inputs["size"] = drawing.size
    if asking.verb == "speak":
        service.check_voice(spoken.voice_name)
        inputs["voice"] = spoken.voice_name
    elif spoken.voice_name is not None and "audio" in wanted:
        warnings.append("audio.voice has no effect here: an article is read in a voice of its own")
    seeds = service.seeds(body.seed, 1)
    asked = await service.ask(
        asking.verb, asking.param, temperature=body.temperature, top_p=body.top_p,
        guidance=body.guidance,
        settings={"top_logprobs": body.top_logprobs or 0} if body.include else None, **inputs,
    )  # fmt: skip
    if body.include:
        check_scored(asked, "include")
    asked = await service.bound(asked, body.max_output_tokens, "max_output_tokens")
    if "audio" in wanted and service.model.audio_tokenizer is not None:
        # Deltas are raw samples, whatever the whole sound is written as.
        raw = "pcm16" if body.stream else spoken.format
        notes += rate_note(raw, int(service.model.audio_tokenizer.sample_rate))
    warnings += [*asking.warnings, *without_effect(asking, body.guidance)]
    warnings += [*notes, *asked.notes]
    return _Answer(service, body, spoken, asked, seeds, warnings)


class _Answer:
    """The answer to one request."""

    def __init__(
        self,
        service: Service,
        body: ResponseBody,
        spoken: SpokenAs,
        asked: AskedRequest,
        seeds: list[int],
        warnings: list[str],
    ) -> None:
        self._service, self._body = service, body
        self._asked, self._seeds, self._warnings = asked, seeds, warnings
        drawing, tokenizer = body.drawing, service.model.image_tokenizer
        file = PictureFile() if drawing is None else drawing.file
        partial = None
        if drawing is not None and body.stream and tokenizer is not None:
            partial = PartialPictures(drawing.partial_images, int(tokenizer.stride), file)
        elif drawing is not None and drawing.partial_images:
            self._warnings.append("partial_images has no effect here: nothing is streamed")
        self._parts = AnswerParts(asked)
        self._items = ResponseItems(file, partial, spoken.format, service.model.sequencer)
        self._id, self._created = f"resp_{uuid.uuid4().hex}", int(time.time())

    async def whole(self) -> dict[str, Any]:
        """`Response`."""
        generation = await self._service.begin(self._asked, self._seeds)
        try:
            response: dict[str, Any] = {}
            async for event in self._events(generation):
                response = event.get("response", response)
            return response
        finally:
            await generation.close()

    async def streamed(self, request: Request) -> Response:
        """Events of `ResponseStreamEvent`, numbered from 0."""
        generation = await until_gone(request, self._service.begin(self._asked, self._seeds))
        return StreamedResponse(
            as_events(self._numbered(generation)),
            "text/event-stream",
            on_end=generation.close,
            on_gone=self._service.metrics.client_left,
            stall_seconds=self._service.limits.stall_seconds,
        )

    async def _numbered(self, generation: Generation) -> AsyncGenerator[dict[str, Any], None]:
        number = 0
        try:
            async for event in self._events(generation):
                yield {**event, "sequence_number": number}
                number += 1
        except ApiError as error:
            failed = {
                **self._response("failed"),
                "error": {"code": "server_error", "message": error.message},
            }
            yield {"type": "response.failed", "response": failed, "sequence_number": number}

    async def _events(self, generation: Generation) -> AsyncGenerator[dict[str, Any], None]:
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self._response("in_progress")}
        async for _, event in generation.events():
            self._parts.add(event)
            async for told in self._items.add(event, self._parts):
                yield told
        status = "incomplete" if self._parts.is_cut else "completed"
        for told in self._items.end(status):
            yield told
        yield {"type": f"response.{status}", "response": self._response(status)}

    def _response(self, status: str) -> dict[str, Any]:
        body, is_over = self._body, status in ("completed", "incomplete")
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": (
                {"reason": "max_output_tokens"} if status == "incomplete" else None
            ),
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": self._service.name,
            "output": [dict(item) for item in self._items.output],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": _plain(body.tool_choice) or "auto",
            "tools": [_plain(tool) for tool in body.tools or []],
            "top_logprobs": body.top_logprobs,
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": IdCounts([self._parts.usage]).response() if is_over else None,
            "seed": self._seeds[0],
            "warnings": all_warnings(self._warnings, [self._parts]),
        }


def _plain(value: Any) -> Any:
    """An object of the body as JSON."""
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value
