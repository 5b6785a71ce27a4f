"""Answers that are sent as they come, and clients that go away in the midst of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from unified.serving.api_errors import ApiError, fault

__all__ = ["ClientGone", "StreamedResponse", "as_events", "until_gone"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class ClientGone(Exception):  # noqa: N818 (nobody's error)
    """The client closed its connection before the answer was complete."""


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled once the client is gone. The body must be read by then.

    Raises ClientGone then.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        await _end(working, gone)


class StreamedResponse(Response):
    """Sends parts as they come, until they end, the client is gone, or it takes nothing more.

    Whichever of these it is, `on_end` is called: it stops what makes the parts.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        media_type: str,
        *,
        on_end: Callable[[], Awaitable[None]],
        on_gone: Callable[[], None],
        stall_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            parts: of the body.
            media_type: of the body.
            on_end: awaited at the end, whatever it was.
            on_gone: called where the client did not take all of it.
            stall_seconds: that sending a part may take.
            headers: further ones.
        """
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"x-accel-buffering": "no", **(headers or {})})
        self._parts, self._on_end, self._on_gone = parts, on_end, on_gone
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() or not sending.result():
                self._on_gone()
        finally:
            await _end(sending, gone)
            await self._parts.aclose()
            await self._on_end()

    async def _send(self, send: Any) -> bool:
        """Whether all parts were sent. A body that breaks off is left without its end, so that no
        client takes it for a whole one."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            async for part in self._parts:
                async with asyncio.timeout(self._stall_seconds):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (TimeoutError, OSError):
            return False
        return True


async def as_events(
    events: AsyncIterator[dict[str, Any]], *, named: bool = True, end: str | None = None
) -> AsyncGenerator[bytes, None]:
    """JSON objects as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events).

    What goes wrong in the midst becomes a last event, {"error": ...}, which the official client
    raises. named: whether each has its "type" as its event's name. end: data behind the last, such
    as "[DONE]".
    """
    try:
        async for event in events:
            yield _event(event, event["type"] if named else None)
    except ApiError as error:
        yield _event(error.to_json(), None)
        return
    except Exception:
        _log.exception("a stream broke off")
        yield _event(fault().to_json(), None)
        return
    if end is not None:
        yield f"data: {end}\n\n".encode()


def _event(value: Mapping[str, Any], name: str | None) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # on one line
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {text}\n\n".encode()


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
