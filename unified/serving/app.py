"""The application: endpoints, what errors become, and the guard in front of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.serving.api_errors import ApiError, fault
from unified.serving.article_changes import change_routes
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_routes import article_routes
from unified.serving.chatting import chatting_routes
from unified.serving.discovery import discovery_routes
from unified.serving.drawing import drawing_routes
from unified.serving.guard import Guard
from unified.serving.playground import playground_routes
from unified.serving.responding import responding_routes
from unified.serving.runs_view import runs_routes
from unified.serving.service import Service
from unified.serving.speaking import speaking_routes
from unified.serving.streamed import ClientGone
from unified.serving.studio_page import page_routes, studio_routes
from unified.serving.transcribing import transcribing_routes
from unified.serving.verb_routes import verb_routes

__all__ = ["Studio", "build_app"]

_GONE = 499  # nginx's; nobody is there to read it
_UNREAD = (408, 413)  # the rest of the body is not read, so the connection ends


@dataclass(frozen=True)
class Studio:
    """What a server has beside the API of others.

    desk: where articles are written. runs: folder of training runs that may be looked at; None:
    none. page: whether the studio's page stands at /.
    """

    desk: ArticleDesk
    runs: Path | None = None
    page: bool = False


def build_app(
    service: Service,
    host: str,
    api_key: str | None = None,
    studio: Studio | None = None,
    others: Sequence[APIRouter] = (),
) -> Guard:
    """The ASGI application of a service.

    Args:
        service: that answers.
        host: that the server is bound to.
        api_key: that clients must bring; None: none, and names of this machine alone.
        studio: articles, and perhaps a page; None: neither.
        others: further endpoints.
    """
    # Without pages of documentation: theirs load scripts from another host.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    routers = [
        make(service)
        for make in (
            discovery_routes, drawing_routes, speaking_routes, transcribing_routes,
            chatting_routes, responding_routes,
        )
    ]  # fmt: skip
    if studio is not None:
        desk = studio.desk
        routers += [
            article_routes(desk), change_routes(desk), studio_routes(desk),
            playground_routes(desk), runs_routes(studio.runs), verb_routes(desk),
        ]  # fmt: skip
    routers += others
    page = studio is not None and studio.page
    if page:
        routers.insert(0, page_routes())  # before discovery's own /
    for router in routers:
        app.include_router(router)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        headers = dict(error.headers)
        if error.status in _UNREAD:
            headers["connection"] = "close"
        return JSONResponse(error.to_json(), error.status, headers)

    @app.exception_handler(HTTPException)
    async def no_such(request: Request, error: HTTPException) -> Response:
        known = ", ".join(sorted(paths))
        message = {
            404: f"there is no endpoint {request.url.path[:80]!r}, expected one of {known}",
            405: f"{request.method} is not for {request.url.path[:80]!r}",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        return JSONResponse(
            ApiError(error.status_code, message).to_json(), error.status_code, headers
        )

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        service.metrics.client_left()
        return Response(status_code=_GONE)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse(fault().to_json(), 500)

    paths = frozenset(
        str(getattr(route, "path", "")) for router in routers for route in router.routes
    )
    return Guard(app, service.limits, service.metrics, api_key, host, paths, page)
