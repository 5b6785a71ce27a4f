"""POST /v1/images/generations: pictures of a prompt, whole or as they are drawn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.engine.events import Done, Dropped, ImageBegun, ImageDone, ImageRow
from unified.models.asking_models import AskedRequest
from unified.serving.api_errors import ApiError
from unified.serving.generation import Generation
from unified.serving.media_written import PictureFile, base64_of
from unified.serving.partial_pictures import PartialPictures
from unified.serving.schema import ApiBody, NoEffect, Unavailable, read_body
from unified.serving.service import Service
from unified.serving.streamed import StreamedResponse, as_events, until_gone
from unified.serving.usage import IdCounts
from unified.tasks.size_rule import write_size

__all__ = ["DrawingBody", "drawing_routes"]


class DrawingBody(ApiBody):
    """`ImageGenerateParams` of the schema; `seed`, `guidance`, `negative_prompt` and the sampling
    parameters are ours."""

    prompt: str
    model: str | None = None
    n: Annotated[int, Field(ge=1)] = 1
    size: str | None = None
    output_format: Literal["png", "webp", "jpeg"] = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    response_format: Literal["b64_json", "url"] = "b64_json"
    stream: bool = False
    partial_images: Annotated[int, Field(ge=0, le=3)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    background: Annotated[
        Literal["transparent", "opaque", "auto"] | None,
        Unavailable("pictures are opaque", ("opaque", "auto")),
    ] = None
    quality: Annotated[str | None, NoEffect("the model has one quality", ("auto",))] = None
    style: Annotated[str | None, NoEffect("say it in the prompt")] = None
    moderation: Annotated[str | None, NoEffect("nothing is moderated")] = None
    user: Annotated[str | None, NoEffect("nothing is told apart by it")] = None
    safety_identifier: Annotated[str | None, NoEffect("nothing is told apart by it")] = None


def drawing_routes(service: Service) -> APIRouter:
    """POST /v1/images/generations."""
    router = APIRouter()

    @router.post("/v1/images/generations")
    async def draw(request: Request) -> Response:
        body: DrawingBody = await read_body(request, DrawingBody)
        service.check_model(body.model)
        if body.stream and body.n > 1:
            raise ApiError(400, f"n is {body.n}, expected 1 where stream is true", param="n")
        if body.partial_images and not body.stream:
            raise ApiError(
                400, "partial_images is of streams; set stream to true", param="partial_images"
            )
        file = PictureFile(body.output_format, body.output_compression)
        file.check("output_compression")
        size = None if body.size == "auto" else body.size
        service.check_size("draw", size)
        seeds = service.seeds(body.seed, body.n)
        asked = await service.ask(
            "draw", "prompt", text=body.prompt, size=size, guidance=body.guidance,
            negative=body.negative_prompt, temperature=body.temperature, top_k=body.top_k,
            top_p=body.top_p,
        )  # fmt: skip
        answer = _Drawn(service, body, file, asked, seeds)
        if not body.stream:
            return JSONResponse(await until_gone(request, answer.whole()))
        return await answer.streamed(request)

    return router


class _Drawn:
    """The answer to one request."""

    def __init__(
        self,
        service: Service,
        body: DrawingBody,
        file: PictureFile,
        asked: AskedRequest,
        seeds: list[int],
    ) -> None:
        self._service, self._body, self._file = service, body, file
        self._asked, self._seeds = asked, seeds
        self._created = int(time.time())
        self._warnings = [*body.warnings(), *asked.notes]

    async def whole(self) -> dict[str, Any]:
        """`ImagesResponse`."""
        generation = await self._service.begin(self._asked, self._seeds)
        pictures: dict[int, dict[str, Any]] = {}
        usages: dict[int, dict[str, int]] = {}
        size: str | None = None
        try:
            async for number, event in generation.events():
                if isinstance(event, ImageDone):
                    pixels = event.image.pixels
                    size = write_size((pixels.shape[1], pixels.shape[0]))
                    pictures[number] = await asyncio.to_thread(self._entry, pixels, number)
                elif isinstance(event, Done):
                    usages[number] = event.usage
                    self._warnings += self._asked.finish(event.document)
                elif isinstance(event, Dropped):
                    self._warnings.append(event.reason)
        finally:
            await generation.close()
        return {
            "created": self._created,
            "data": [pictures[number] for number in sorted(pictures)],
            "background": "opaque",
            "output_format": self._file.format,
            "size": size,
            "usage": IdCounts(usages.values()).drawn(),
            "warnings": self._warnings,
        }

    def _entry(self, pixels: Any, number: int) -> dict[str, Any]:
        """`Image`, with the seed that draws it again."""
        entry: dict[str, Any] = {"seed": self._seeds[number]}
        if self._body.response_format == "url":
            entry["url"] = self._file.url(pixels)
        else:
            entry["b64_json"] = base64_of(self._file.encode(pixels))
        if self._asked.inputs.text != self._body.prompt:
            entry["revised_prompt"] = self._asked.inputs.text
        return entry

    async def streamed(self, request: Request) -> Response:
        """Events of `ImageGenStreamEvent`."""
        generation = await until_gone(request, self._service.begin(self._asked, self._seeds))
        return StreamedResponse(
            as_events(self._events(generation)),
            "text/event-stream",
            on_end=generation.close,
            on_gone=self._service.metrics.client_left,
            stall_seconds=self._service.limits.stall_seconds,
        )

    async def _events(self, generation: Generation) -> AsyncGenerator[dict[str, Any], None]:
        tokenizer = self._service.model.image_tokenizer
        assert tokenizer is not None  # or the task would have been refused
        partial = PartialPictures(self._body.partial_images, int(tokenizer.stride), self._file)
        size, picture = self._body.size or "auto", b""
        common = {
            "created_at": self._created,
            "background": "opaque",
            "output_format": self._file.format,
            "quality": "auto",
        }
        async for _, event in generation.events():
            if isinstance(event, ImageBegun):
                partial.begin(event)
                if event.width is not None and event.height is not None:
                    size = write_size((event.width, event.height))
            elif isinstance(event, ImageRow):
                if (rows := await partial.at(event)) is not None:
                    yield {
                        "type": "image_generation.partial_image",
                        "b64_json": base64_of(rows),
                        "partial_image_index": partial.index,
                        "size": size,
                        **common,
                    }
            elif isinstance(event, ImageDone):
                pixels = event.image.pixels
                size = write_size((pixels.shape[1], pixels.shape[0]))
                picture = await asyncio.to_thread(self._file.encode, pixels)
            elif isinstance(event, Dropped):
                self._warnings.append(event.reason)
            elif isinstance(event, Done):
                yield {
                    "type": "image_generation.completed",
                    "b64_json": base64_of(picture),
                    "size": size,
                    "usage": IdCounts([event.usage]).drawn(),
                    "seed": self._seeds[0],
                    "warnings": [*self._warnings, *self._asked.finish(event.document)],
                    **common,
                }
