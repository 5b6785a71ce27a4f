"""What there is: health, models, voices, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from unified.serving.service import Service
from unified.tasks.task import Task

__all__ = ["discovery_routes"]

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def discovery_routes(service: Service) -> APIRouter:
    """GET /healthz, /v1/models, /v1/models/{id}, /v1/voices, /metrics."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> Response:
        ending = service.queue.closing is not None
        return JSONResponse(
            {"status": "ending" if ending else "ok", "model": service.name},
            status_code=503 if ending else 200,
        )

    @router.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [_model(service)]})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        service.check_model(name)
        return JSONResponse(_model(service))

    @router.get("/v1/voices")
    async def voices() -> Response:
        return JSONResponse(_voices(service))

    @router.get("/metrics")
    async def metrics() -> Response:
        text = service.metrics.text(service.queue, service.model.engine.counters)
        return Response(text, media_type=_PROMETHEUS)

    @router.get("/")
    async def root() -> Response:
        return PlainTextResponse(f"unified serves {service.name}; see /v1/models and /healthz\n")

    return router


def _model(service: Service) -> dict[str, Any]:
    """OpenAI's model object, and what this one can be asked."""
    tasks = service.model.tasks
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "unified",
        "fingerprint": service.fingerprint,
        "tasks": {
            verb: {
                key: entry[key]
                for key in ("able", "reason", "makes", "media", "sizes", "voices", "example")
                if key in entry
            }
            for verb, entry in tasks.describe().items()
        },
    }


def _voices(service: Service) -> dict[str, Any]:
    """The voices by name. any: whether the model takes every name; reason: why it has none."""
    task = service.model.tasks["speak"]
    if not isinstance(task, Task):
        return {"object": "list", "data": [], "any": False, "reason": task.reason}
    data = [
        {"id": name, "object": "voice", "name": name, "default": name == task.voice}
        for name in task.voices
    ]
    named = "voice" in task.placeholders
    return {"object": "list", "data": data, "any": named and not task.voices}
