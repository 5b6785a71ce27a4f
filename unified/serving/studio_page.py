"""The studio's page at / and its files, and what it asks once: what there is to write with."""

from __future__ import annotations

import asyncio
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from unified.serving.api_errors import ApiError
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_export import FORMATS
from unified.serving.service import Service
from unified.tasks.task import Refusal, Task
from unified.tasks.task_plugin import load_plugin
from unified_base.text import quoted
from unified_base.version import __version__

__all__ = ["PAGE_POLICY", "page_routes", "studio_routes"]

PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: data:;"
    " style-src 'self'; script-src 'self'; connect-src 'self'; object-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


def studio_routes(desk: ArticleDesk) -> APIRouter:
    """GET /v1/studio."""
    router = APIRouter()

    @router.get("/v1/studio")
    async def studio() -> Response:
        return JSONResponse(await asyncio.to_thread(_described, desk))

    return router


def page_routes() -> APIRouter:
    """GET / and /studio/..., the page and its files."""
    router = APIRouter()
    folder = files("unified.serving") / "studio"

    @router.get("/")
    async def page() -> Response:
        return _file(folder, "index.html")

    @router.get("/studio/{name:path}")
    async def part(name: str) -> Response:
        return _file(folder, name)

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    return router


def _file(folder: Traversable, name: str) -> Response:
    node = folder
    for part in name.split("/"):
        children = {child.name: child for child in node.iterdir()} if node.is_dir() else {}
        if part not in children or part.startswith((".", "_")):
            raise ApiError(404, f"the studio has no file {quoted(name)}", code="file_not_found")
        node = children[part]
    if not node.is_file():
        raise ApiError(404, f"the studio has no file {quoted(name)}", code="file_not_found")
    ending = name[name.rfind(".") :]
    kind = _TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"content-security-policy": PAGE_POLICY, "referrer-policy": "no-referrer"}
    return Response(node.read_bytes(), media_type=kind, headers=headers)


def _described(desk: ArticleDesk) -> dict[str, Any]:
    service, tasks = desk.service, desk.service.model.tasks
    write, speak = tasks["write"], tasks["speak"]
    limits = service.limits
    return {
        "model": service.name,
        "version": __version__,
        "fingerprint": service.fingerprint,
        "write": {"able": False, "reason": write.reason} if isinstance(write, Refusal) else {
            "able": True, "example": write.example,
        },
        "languages": _languages(write),
        "voices": list(speak.voices) if isinstance(speak, Task) else [],
        "decoders": list(desk.decoders.names),
        "pictures": service.model.image_tokenizer is not None,
        "narration": service.model.audio_tokenizer is not None,
        "subjects": _subjects(service),
        "picture_sizes": tasks.describe()["write"].get("sizes"),
        "export_formats": list(FORMATS),
        "limits": {
            "body": limits.max_body, "pixels": limits.max_pixels, "rows": limits.max_rows,
            "sound_seconds": limits.max_sound_seconds, "segments": limits.max_parts,
            "samples": limits.max_number,
        },
    }  # fmt: skip


def _languages(write: Task | Refusal) -> list[str]:
    """Those that a user may choose; [] where the task has no forms for them."""
    if isinstance(write, Refusal):
        return []
    each = (write.language, *(form.language for form in write.forms))
    return list(dict.fromkeys(language for language in each if language))


def _subjects(service: Service) -> list[dict[str, Any]]:
    """What the model says that it knows."""
    model = service.model
    if model.plugin is None or model.directory is None:
        return []
    known = load_plugin(model.plugin).subjects(model.directory)
    return [
        {name: subject[name] for name in ("name", "zh", "kind") if name in subject}
        for subject in known or ()
    ]
