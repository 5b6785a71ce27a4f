"""What every request must pass before any of its body is read: host, origin, key, size, time."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from unified.serving.api_errors import ApiError
from unified.serving.server_limits import ServerLimits
from unified.serving.server_metrics import ServerMetrics

__all__ = ["Guard"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, _Receive, _Send], Awaitable[None]]

_OPEN = ("/healthz",)  # needs no key
_PAGE = ("/", "/favicon.ico")  # nor does a page, which has nothing but itself to tell
_PAGE_FILES = "/studio/"
_LOCAL = ("localhost", "127.0.0.1", "::1")
# Browsers are to make nothing of an answer but what it says it is. An answer's own come first.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """ASGI middleware around the application.

    Without a key the server is for this machine alone: it answers under the names of this machine
    and no other, so that no page of a foreign host, whose name was made to point here, can reach it
    (DNS rebinding). With or without, a browser's request from another origin is refused. What comes
    through the private socket (`private_socket`), which is its user's alone, needs no key.
    """

    def __init__(
        self, app: _App, limits: ServerLimits, metrics: ServerMetrics, api_key: str | None,
        host: str, paths: frozenset[str], page: bool = False,
    ) -> None:  # fmt: skip
        """
        Args:
            app: what is guarded.
            limits: of bodies.
            metrics: told every answer.
            api_key: that clients must bring; None: none.
            host: that the server is bound to.
            paths: the endpoints there are, by which answers are counted.
            page: whether the studio's page is open to all that may come in.
        """
        self._app, self._limits, self._metrics = app, limits, metrics
        self._key = None if api_key is None else api_key.encode()
        self._hosts = None if api_key is not None else {*_LOCAL, host.lower()}
        self._paths, self._page = paths, page

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        began = False

        async def tell(message: _Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                self._metrics.answered(path, message["status"])
                headers = list(message.get("headers", ()))
                own = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in _HEADERS if name not in own]
                message["headers"] = headers
            await send(message)

        body = _Body(receive, self._limits)
        try:
            self._check(scope)
            body.check_length(_header(scope, b"content-length"))
            await self._app(scope, body.receive, tell)
        except ApiError as error:
            if began:
                raise
            # The rest of the body is not read, so the connection cannot serve another request.
            await _refuse(error, tell)

    def _check(self, scope: Any) -> None:
        """Raises ApiError for a request that may not come in."""
        host = _header(scope, b"host") or ""
        if self._hosts is not None and _name_of(host) not in self._hosts:
            raise ApiError(
                403,
                "the request is for another host; this server answers under the names of this"
                " machine alone, as long as it has no --api-key",
                code="host_not_allowed",
            )
        origin = _header(scope, b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise ApiError(
                403, "requests from pages of another origin are refused", code="origin_not_allowed"
            )
        path = scope["path"]
        is_page = self._page and (path in _PAGE or path.startswith(_PAGE_FILES))
        if self._key is None or path in _OPEN or is_page or _is_private(scope):
            return
        scheme, _, key = (_header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._key):
            raise ApiError(
                401,
                "this server needs its key: Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Body:
    """A body that is counted while it comes, whatever its header said."""

    def __init__(self, receive: _Receive, limits: ServerLimits) -> None:
        self._receive, self._limits = receive, limits
        self._length = 0
        self._complete = False
        self._until: float | None = None

    def check_length(self, header: str | None) -> None:
        """Raises ApiError for a length that is too large, before anything is read."""
        if header is None:
            return
        if not (header.isascii() and header.isdigit()) or len(header) > 20:
            raise ApiError(400, "Content-Length is no number", code="bad_content_length")
        self._check(int(header))

    async def receive(self) -> _Message:
        """ASGI's receive."""
        if self._complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._until is None:
            self._until = loop.time() + self._limits.body_seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(
                408,
                f"the body did not come within {self._limits.body_seconds:g} seconds",
                code="body_timeout",
            ) from None
        if message["type"] == "http.request":
            self._length += len(message.get("body", b""))
            self._check(self._length)
            self._complete = not message.get("more_body", False)
        return message

    def _check(self, length: int) -> None:
        if length > self._limits.max_body:
            raise ApiError(
                413,
                f"the body has more than {self._limits.max_body:,} bytes; send less",
                code="body_too_large",
            )


async def _refuse(error: ApiError, send: _Send) -> None:
    body = json.dumps(error.to_json()).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers,
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _is_private(scope: Any) -> bool:
    """Whether a request came through a socket of the file system, which has no port."""
    server = scope.get("server")
    return server is not None and server[1] is None


def _header(scope: Any, name: bytes) -> str | None:
    """A header's value; None: it is not there. Values of several are joined, which fits nothing."""
    values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ", ".join(values) if values else None


def _name_of(host: str) -> str:
    """The name in a Host header, without the port and an IPv6 address's brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
