"""POST /v1/audio/speech: a text spoken, as a file or as it is spoken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from unified.engine.events import AudioChunk, AudioDone, Done, Dropped
from unified.models.asking_models import AskedRequest
from unified.serving.api_errors import ApiError
from unified.serving.generation import Generation
from unified.serving.media_written import base64_of, encode_sound, pcm16, sound_type, wav_head
from unified.serving.schema import ApiBody, ApiObject, NoEffect, Unavailable, read_body
from unified.serving.service import Service
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.usage import IdCounts

__all__ = ["SpeakingBody", "VoiceName", "notes_header", "rate_note", "speaking_routes"]

_MOST_CHARACTERS = 4_096
_SCHEMA_RATE = 24_000  # Hz of the schema's raw samples


class VoiceName(ApiObject):
    """A voice as an object, as the schema may have it."""

    id: str


class SpeakingBody(ApiBody):
    """`SpeechCreateParams` of the schema; `seed` and the sampling parameters are ours."""

    input: Annotated[str, Field(max_length=_MOST_CHARACTERS)]
    model: str
    voice: str | VoiceName | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["sse", "audio"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    speed: Annotated[float | None, Unavailable("speech has one speed", (1.0,))] = None
    instructions: Annotated[str | None, NoEffect("the model takes no directions", ("",))] = None


def speaking_routes(service: Service) -> APIRouter:
    """POST /v1/audio/speech."""
    router = APIRouter()

    @router.post("/v1/audio/speech")
    async def speak(request: Request) -> Response:
        body: SpeakingBody = await read_body(request, SpeakingBody)
        service.check_model(body.model)
        voice = body.voice.id if isinstance(body.voice, VoiceName) else body.voice
        service.check_voice(voice)
        (seed,) = service.seeds(body.seed, 1)
        asked = await service.ask(
            "speak", "input", text=body.input, voice=voice, temperature=body.temperature,
            top_k=body.top_k, top_p=body.top_p,
        )  # fmt: skip
        tokenizer = service.model.audio_tokenizer
        assert tokenizer is not None  # or the task would have been refused
        rate, format = int(tokenizer.sample_rate), body.response_format
        warnings = [*body.warnings(), *asked.notes, *rate_note(format, rate)]
        headers = {
            **notes_header(warnings),
            "x-unified-seed": str(seed),
            "x-unified-sample-rate": str(rate),
        }
        sse = body.stream_format == "sse"
        # A file's head says how long it is, so a WAV is streamed only where it is asked for.
        streamed = format == "pcm" or (format == "wav" and body.stream_format == "audio")
        if not sse and not streamed:
            data = await until_gone(request, _whole(service, asked, seed, format))
            return Response(data, media_type=sound_type(format, rate), headers=headers)
        generation = await until_gone(request, service.begin(asked, [seed]))
        if sse:
            parts = as_events(_sse(generation, format, warnings, seed))
        else:
            parts = _parts(generation, format)
        return StreamedResponse(
            parts,
            "text/event-stream" if sse else sound_type(format, rate),
            on_end=generation.close,
            on_gone=service.metrics.client_left,
            stall_seconds=service.limits.stall_seconds,
            headers=headers,
        )

    return router


def rate_note(format: str, rate: int) -> list[str]:
    """What to tell of raw samples that are not at the schema's rate."""
    if format not in ("pcm", "pcm16") or rate == _SCHEMA_RATE:
        return []
    return [f"samples are at the model's own {rate:,} Hz, not at {_SCHEMA_RATE:,} Hz"]


def notes_header(warnings: list[str]) -> Mapping[str, str]:
    """Warnings where a body has no place for them: a JSON array of ASCII."""
    return {"x-unified-warnings": json.dumps(warnings)} if warnings else {}


async def _whole(service: Service, asked: AskedRequest, seed: int, format: str) -> bytes:
    generation = await service.begin(asked, [seed])
    try:
        data = b""
        async for _, event in generation.events():
            if isinstance(event, AudioDone):
                sound = event.audio
                data = await asyncio.to_thread(
                    encode_sound, sound.waveform, sound.sample_rate, format
                )
        return data
    finally:
        await generation.close()


async def _parts(generation: Generation, format: str) -> AsyncGenerator[bytes, None]:
    """Raw samples as they come, behind a WAV's head where it is one. An error breaks them off."""
    head = format == "wav"
    try:
        async for _, event in generation.events():
            if isinstance(event, AudioChunk):
                if head:
                    yield wav_head(event.waveform.shape[0], event.sample_rate)
                    head = False
                yield pcm16(event.waveform, event.sample_rate)
    except ApiError as error:
        raise OSError(error.message) from None  # there is no other way to tell by now


async def _sse(
    generation: Generation, format: str, warnings: list[str], seed: int
) -> AsyncGenerator[dict[str, Any], None]:
    """`speech.audio.delta` and `speech.audio.done`: samples as they come; of what is one file with
    a length or a packed stream, a single delta."""
    samples = format in ("pcm", "wav")
    head = format == "wav"
    async for _, event in generation.events():
        data = b""
        if isinstance(event, AudioChunk) and samples:
            if head:
                data, head = wav_head(event.waveform.shape[0], event.sample_rate), False
            data += pcm16(event.waveform, event.sample_rate)
        elif isinstance(event, AudioDone) and not samples:
            sound = event.audio
            data = await asyncio.to_thread(encode_sound, sound.waveform, sound.sample_rate, format)
        elif isinstance(event, Dropped):
            warnings.append(event.reason)
        elif isinstance(event, Done):
            usage = IdCounts([event.usage]).of_sound()
            yield {"type": "speech.audio.done", "usage": usage, "seed": seed, "warnings": warnings}
        if data:
            yield {"type": "speech.audio.delta", "audio": base64_of(data)}
