"""POST /v1/chat/completions: words, pictures and sounds in and out, whole or as written."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.engine.events import AudioBegun, AudioChunk, AudioDone, Done, ImageDone, TextPiece
from unified.engine.text_scores import TextScore
from unified.models.asking_models import AskedRequest
from unified.serving.answer_parts import AnswerParts, SpokenPart, all_warnings
from unified.serving.api_errors import ApiError
from unified.serving.chat_body import ChatBody, SpokenAs, chat_messages
from unified.serving.conversation_given import choose_verb, without_effect
from unified.serving.generation import Generation
from unified.serving.media_written import PictureFile, base64_of, encode_sound, pcm16
from unified.serving.schema import read_body
from unified.serving.service import Service
from unified.serving.speaking import rate_note
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.told_logprobs import check_scored, told_logprobs
from unified.serving.usage import IdCounts

__all__ = ["chatting_routes"]


def chatting_routes(service: Service) -> APIRouter:
    """POST /v1/chat/completions."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body: ChatBody = await read_body(request, ChatBody)
        service.check_model(body.model)
        completion = await _asked(service, body)
        if body.stream:
            return await completion.streamed(request)
        return JSONResponse(await until_gone(request, completion.whole()))

    return router


async def _asked(service: Service, body: ChatBody) -> _Completion:
    """What a body asks for, checked. Raises ApiError."""
    wanted = body.modalities or ["text"]
    spoken = body.audio or SpokenAs()
    warnings = body.warnings()
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise ApiError(
            400, "max_tokens and max_completion_tokens say the same; give one of them",
            param="max_tokens",
        )  # fmt: skip
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(
            400, "top_logprobs are beside logprobs; set logprobs to true", param="top_logprobs"
        )
    if body.stream_options is not None and not body.stream:
        raise ApiError(
            400, "stream_options are of streams; set stream to true", param="stream_options"
        )
    if "audio" in wanted and body.stream and spoken.format != "pcm16":
        raise ApiError(
            400, f"audio.format is {spoken.format}, expected pcm16 where stream is true",
            param="audio.format",
        )  # fmt: skip
    if body.audio is not None and "audio" not in wanted:
        warnings.append("audio has no effect here: it is not among the modalities")
    messages, notes = await asyncio.to_thread(chat_messages, body, service.limits)
    asking = choose_verb(messages, wanted)
    inputs = dict(asking.inputs)
    if asking.verb == "speak":
        service.check_voice(spoken.voice_name)
        inputs["voice"] = spoken.voice_name
    elif spoken.voice_name is not None and "audio" in wanted:
        warnings.append("audio.voice has no effect here: an article is read in a voice of its own")
    seeds = service.seeds(body.seed, body.n)
    settings: dict[str, Any] = {"stop": body.stops} if body.stops else {}
    if body.logprobs:
        settings["top_logprobs"] = body.top_logprobs or 0
    asked = await service.ask(
        asking.verb, asking.param, temperature=body.temperature, top_p=body.top_p,
        top_k=body.top_k, guidance=body.guidance, max_thought_ids=body.max_thought_ids,
        settings=settings, **inputs,
    )  # fmt: skip
    if body.logprobs:
        check_scored(asked, "logprobs")
    if body.max_completion_tokens is not None:
        asked = await service.bound(asked, body.max_completion_tokens, "max_completion_tokens")
    else:
        asked = await service.bound(asked, body.max_tokens, "max_tokens")
    if "audio" in wanted and service.model.audio_tokenizer is not None:
        notes += rate_note(spoken.format, int(service.model.audio_tokenizer.sample_rate))
    warnings += [*asking.warnings, *without_effect(asking, body.guidance, body.stops)]
    warnings += [*notes, *asked.notes]
    return _Completion(service, body, spoken, asked, seeds, warnings)


class _Completion:
    """The answer to one request."""

    def __init__(
        self,
        service: Service,
        body: ChatBody,
        spoken: SpokenAs,
        asked: AskedRequest,
        seeds: list[int],
        warnings: list[str],
    ) -> None:
        self._service, self._body, self._spoken = service, body, spoken
        self._asked, self._seeds, self._warnings = asked, seeds, warnings
        self._answers = [AnswerParts(asked) for _ in seeds]
        self._file = PictureFile()
        self._common = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": service.fingerprint,
        }

    # Whole.

    async def whole(self) -> dict[str, Any]:
        """`ChatCompletion`."""
        generation = await self._service.begin(self._asked, self._seeds)
        try:
            async for number, event in generation.events():
                self._answers[number].add(event)
        finally:
            await generation.close()
        choices = await asyncio.to_thread(
            lambda: [self._choice(number) for number in range(len(self._answers))]
        )
        return {
            **self._common,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(),
            **self._ours(),
        }

    def _choice(self, number: int) -> dict[str, Any]:
        answer = self._answers[number]
        message: dict[str, Any] = {
            "role": "assistant", "content": self._content(answer), "refusal": None,
        }  # fmt: skip
        if self._body.include_reasoning and answer.thought is not None:
            message["reasoning_content"] = answer.thought
        if answer.pictures:
            message["images"] = [
                self._picture(image.pixels, index) for index, image in enumerate(answer.pictures)
            ]
        if answer.sounds:
            message["audio"] = {
                **self._sound(answer.sounds[0]),
                "expires_at": self._common["created"],  # nothing is kept
            }
        return {
            "index": number,
            "message": message,
            "finish_reason": _reason(answer),
            "logprobs": self._logprobs(answer.scores),
        }

    def _logprobs(self, scores: Sequence[TextScore]) -> dict[str, Any] | None:
        """`ChoiceLogprobs`."""
        if not self._body.logprobs:
            return None
        content = told_logprobs(scores, self._service.model.sequencer)
        return {"content": content, "refusal": None}

    def _content(self, answer: AnswerParts) -> str | list[dict[str, Any]] | None:
        """The words; all parts in order where there is more than words and one sound."""
        if not answer.pictures and len(answer.sounds) < 2:
            return answer.text or None
        content: list[dict[str, Any]] = []
        for part in answer.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif isinstance(part, SpokenPart):
                content.append({"type": "audio", "audio": self._sound(part)})
            else:
                content.append(self._picture(part.pixels))
        return content

    def _picture(self, pixels: Any, index: int | None = None) -> dict[str, Any]:
        entry = {"type": "image_url", "image_url": {"url": self._file.url(pixels)}}
        return entry if index is None else {**entry, "index": index}

    def _sound(self, part: SpokenPart) -> dict[str, Any]:
        sound = part.audio
        data = encode_sound(sound.waveform, sound.sample_rate, self._spoken.format)
        return {
            "id": f"audio_{uuid.uuid4().hex}",
            "data": base64_of(data),
            "transcript": part.transcript,
            "format": self._spoken.format,
            "sample_rate": sound.sample_rate,
        }

    def _usage(self) -> dict[str, Any]:
        return IdCounts(answer.usage for answer in self._answers).completion()

    def _ours(self) -> dict[str, Any]:
        """What the schema has no field for."""
        return {
            "seed": self._seeds[0],
            "warnings": all_warnings(self._warnings, self._answers),
        }

    # Streamed.

    async def streamed(self, request: Request) -> Response:
        """Events of `ChatCompletionChunk`."""
        generation = await until_gone(request, self._service.begin(self._asked, self._seeds))
        return StreamedResponse(
            as_events(self._chunks(generation), named=False, end="[DONE]"),
            "text/event-stream",
            on_end=generation.close,
            on_gone=self._service.metrics.client_left,
            stall_seconds=self._service.limits.stall_seconds,
        )

    async def _chunks(self, generation: Generation) -> AsyncGenerator[dict[str, Any], None]:
        sound_ids: dict[int, str] = {}
        options = self._body.stream_options
        for number in range(len(self._answers)):
            yield self._chunk(number, {"role": "assistant", "content": ""})
        left = len(self._answers)
        async for number, event in generation.events():
            answer = self._answers[number]
            answer.add(event)
            if isinstance(event, TextPiece):
                told = self._logprobs(event.scores)
                yield self._chunk(number, {"content": event.text}, logprobs=told)
            elif isinstance(event, ImageDone):
                index = len(answer.pictures) - 1
                picture = await asyncio.to_thread(self._picture, event.image.pixels, index)
                yield self._chunk(number, {"images": [picture]})
            elif isinstance(event, AudioBegun):
                sound_ids[number] = f"audio_{uuid.uuid4().hex}"
                yield self._chunk(number, {"audio": {"id": sound_ids[number]}})
            elif isinstance(event, AudioChunk):
                data = base64_of(pcm16(event.waveform, event.sample_rate))
                yield self._chunk(number, {"audio": {"id": sound_ids[number], "data": data}})
            elif isinstance(event, AudioDone):
                transcript = answer.sounds[-1].transcript
                for rest in ({"transcript": transcript}, {"expires_at": self._common["created"]}):
                    yield self._chunk(number, {"audio": {"id": sound_ids[number], **rest}})
            elif isinstance(event, Done):
                left -= 1
                if self._body.include_reasoning and answer.thought is not None:
                    yield self._chunk(number, {"reasoning_content": answer.thought})
                chunk = self._chunk(number, {}, _reason(answer))
                yield chunk if left else {**chunk, **self._ours()}
        if options is not None and options.include_usage:
            yield {
                **self._common,
                "object": "chat.completion.chunk",
                "choices": [],
                "usage": self._usage(),
            }

    def _chunk(
        self,
        number: int,
        delta: dict[str, Any],
        reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
        return {**self._common, "object": "chat.completion.chunk", "choices": [choice]}


def _reason(answer: AnswerParts) -> str:
    return "length" if answer.is_cut else "stop"
