"""POST /v1/audio/transcriptions: speech to text, whole or as it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unified.engine.events import Done, Dropped, TextCut, TextPiece
from unified.models.asking_models import AskedRequest
from unified.serving.api_errors import ApiError
from unified.serving.generation import Generation
from unified.serving.media_given import sound_of_file
from unified.serving.schema import ApiBody, NoEffect, Unavailable
from unified.serving.service import Service
from unified.serving.speaking import notes_header
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.usage import IdCounts
from unified_base.text import quoted

__all__ = ["TranscribingBody", "transcribing_routes"]

_MOST_FIELDS = 32
_MOST_FIELD = 1 << 16  # bytes of a field that is no file
_LISTS = ("timestamp_granularities[]", "include[]")
_ALIASES = {"timestamp_granularities": "timestamp_granularities[]", "include": "include[]"}


class TranscribingBody(ApiBody):
    """`TranscriptionCreateParams` of the schema without its file; `seed` is ours."""

    model: str
    response_format: Literal["json", "text"] = "json"
    stream: bool = False
    temperature: float | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    timestamp_granularities: Annotated[
        list[str] | None,
        Unavailable("transcripts have no times", ([],)),
        Field(alias="timestamp_granularities[]"),
    ] = None
    include: Annotated[
        list[str] | None, Unavailable("transcripts come without", ([],)), Field(alias="include[]")
    ] = None
    chunking_strategy: Annotated[str | None, NoEffect("a sound is heard as a whole", ("auto",))] = (
        None
    )
    language: Annotated[str | None, NoEffect("the model hears what it was trained on")] = None
    prompt: Annotated[str | None, NoEffect("the model takes no directions", ("",))] = None


def transcribing_routes(service: Service) -> APIRouter:
    """POST /v1/audio/transcriptions."""
    router = APIRouter()

    @router.post("/v1/audio/transcriptions")
    async def transcribe(request: Request) -> Response:
        data, body = await _read_form(request)
        service.check_model(body.model)
        if body.stream and body.response_format != "json":
            raise ApiError(
                400, "response_format is text, expected json where stream is true",
                param="response_format",
            )  # fmt: skip
        service.task("listen")
        sound, notes = await asyncio.to_thread(sound_of_file, data, "file", service.limits)
        (seed,) = service.seeds(body.seed, 1)
        asked = await service.ask("listen", "file", audio=sound, temperature=body.temperature)
        warnings = [*body.warnings(), *notes, *asked.notes]
        if body.stream:
            generation = await until_gone(request, service.begin(asked, [seed]))
            return StreamedResponse(
                as_events(_events(generation, asked, warnings, seed)),
                "text/event-stream",
                on_end=generation.close,
                on_gone=service.metrics.client_left,
                stall_seconds=service.limits.stall_seconds,
            )
        answer = await until_gone(request, _whole(service, asked, warnings, seed))
        if body.response_format == "text":
            return PlainTextResponse(
                answer["text"] + "\n",
                headers={**notes_header(answer["warnings"]), "x-unified-seed": str(seed)},
            )
        return JSONResponse(answer)

    return router


async def _read_form(request: Request) -> tuple[bytes, TranscribingBody]:
    """The file's bytes, and the other fields. Raises ApiError for what is no such form."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise ApiError(415, f"the body is {quoted(media_type)}, expected multipart/form-data")
    try:
        form = await request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD)
    except (HTTPException, ValueError) as error:  # of the parser, which says what is broken
        reason = error.detail if isinstance(error, HTTPException) else error
        raise ApiError(400, f"the form cannot be read: {reason}") from None
    try:
        values: dict[str, Any] = {}
        data: bytes | None = None
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise ApiError(400, f"unknown file {quoted(name)}, expected file", param=name)
                data = await value.read()
                continue
            name = _ALIASES.get(name, name)
            if name in _LISTS:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise ApiError(400, f"{quoted(name)} stands twice; give it once", param=name)
            else:
                values[name] = _plain(name, value)
    finally:
        await form.close()
    body = TranscribingBody.parse(values)
    if data is None:
        raise ApiError(400, "file is missing", param="file", code="missing_required_parameter")
    return data, body


def _plain(name: str, value: str) -> Any:
    """The value of a form's field, which is text whatever it says."""
    if name == "stream":
        if value.lower() not in ("true", "false"):
            raise ApiError(400, f"stream is {quoted(value)}, expected true or false", param=name)
        return value.lower() == "true"
    if name in ("temperature", "seed"):
        try:
            return float(value) if name == "temperature" else int(value)
        except ValueError:
            raise ApiError(
                400, f"{name} is {quoted(value)}, expected a number", param=name
            ) from None
    return value


async def _events(
    generation: Generation, asked: AskedRequest, warnings: list[str], seed: int
) -> AsyncGenerator[dict[str, Any], None]:
    """`transcript.text.delta` and `transcript.text.done`."""
    text = ""
    async for _, event in generation.events():
        if isinstance(event, TextPiece):
            text += event.text
            yield {"type": "transcript.text.delta", "delta": event.text}
        elif isinstance(event, TextCut):
            warnings.append(event.message)
        elif isinstance(event, Dropped):
            warnings.append(event.reason)
        elif isinstance(event, Done):
            yield {
                "type": "transcript.text.done",
                "text": text,
                "usage": IdCounts([event.usage]).of_sound(),
                "seed": seed,
                "warnings": [*warnings, *asked.finish(event.document)],
            }


async def _whole(
    service: Service, asked: AskedRequest, warnings: list[str], seed: int
) -> dict[str, Any]:
    """`Transcription`."""
    generation = await service.begin(asked, [seed])
    try:
        answer: dict[str, Any] = {}
        async for event in _events(generation, asked, warnings, seed):
            answer = event
        return {name: value for name, value in answer.items() if name != "type"}
    finally:
        await generation.close()
