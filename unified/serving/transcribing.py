"""POST /v1/audio/transcriptions: speech to text, whole or as it is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unified.engine.events import Done, Dropped, TextCut, TextPiece
from unified.engine.text_scores import TextScore
from unified.models.asking_models import AskedRequest
from unified.serving.api_errors import ApiError
from unified.serving.generation import Generation
from unified.serving.media_given import sound_of_file
from unified.serving.schema import ApiBody, NoEffect, Unavailable
from unified.serving.service import Service
from unified.serving.speaking import notes_header
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.told_logprobs import told_logprobs
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
    include: Annotated[list[Literal["logprobs"]] | None, Field(alias="include[]")] = None
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
        if body.include and body.response_format != "json":
            raise ApiError(
                400, "include asks for logprobs, which plain text has no room for; expected "
                "response_format json", param="include",
            )  # fmt: skip
        service.task("listen")
        sound, notes = await asyncio.to_thread(sound_of_file, data, "file", service.limits)
        (seed,) = service.seeds(body.seed, 1)
        asked = await service.ask(
            "listen", "file", audio=sound, temperature=body.temperature,
            settings={"top_logprobs": 0} if body.include else {},
        )  # fmt: skip
        transcript = _Transcript(service, asked, [*body.warnings(), *notes, *asked.notes], seed)
        if body.stream:
            generation = await until_gone(request, service.begin(asked, [seed]))
            return StreamedResponse(
                as_events(transcript.events(generation)),
                "text/event-stream",
                on_end=generation.close,
                on_gone=service.metrics.client_left,
                stall_seconds=service.limits.stall_seconds,
            )
        answer = await until_gone(request, transcript.whole())
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


class _Transcript:
    """What is heard, as events or whole."""

    def __init__(
        self, service: Service, asked: AskedRequest, warnings: list[str], seed: int
    ) -> None:
        """asked: with the number of `top_logprobs` where log probabilities are wanted."""
        self._service, self._asked, self._warnings = service, asked, warnings
        self._seed = seed

    async def events(self, generation: Generation) -> AsyncGenerator[dict[str, Any], None]:
        """`transcript.text.delta` and `transcript.text.done`."""
        text, logprobs = "", list[dict[str, Any]]()
        async for _, event in generation.events():
            if isinstance(event, TextPiece):
                text += event.text
                told = self._logprobs(event.scores)
                logprobs += told
                delta = {"type": "transcript.text.delta", "delta": event.text}
                yield {**delta, **self._where_wanted(told)}
            elif isinstance(event, TextCut):
                self._warnings.append(event.message)
            elif isinstance(event, Dropped):
                self._warnings.append(event.reason)
            elif isinstance(event, Done):
                yield {
                    "type": "transcript.text.done",
                    "text": text,
                    **self._where_wanted(logprobs),
                    "usage": IdCounts([event.usage]).of_sound(),
                    "seed": self._seed,
                    "warnings": [*self._warnings, *self._asked.finish(event.document)],
                }

    async def whole(self) -> dict[str, Any]:
        """`Transcription`."""
        generation = await self._service.begin(self._asked, [self._seed])
        try:
            answer: dict[str, Any] = {}
            async for event in self.events(generation):
                answer = event
            return {name: value for name, value in answer.items() if name != "type"}
        finally:
            await generation.close()

    def _logprobs(self, scores: Iterable[TextScore]) -> list[dict[str, Any]]:
        """The schema has no others beside an id's own here."""
        entries = told_logprobs(scores, self._service.model.sequencer)
        return [{name: entry[name] for name in ("token", "bytes", "logprob")} for entry in entries]

    def _where_wanted(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        wanted = self._asked.sampling.top_logprobs is not None
        return {"logprobs": logprobs} if wanted else {}
