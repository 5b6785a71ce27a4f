"""The answer to a request that writes: events while it is written, or the article at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unified.engine.events import Done
from unified.serving.api_errors import ApiError, fault
from unified.serving.article_draft import ArticleDraft
from unified.serving.generation import Generation
from unified.serving.segment_events import FinishedSegment, SegmentEvents
from unified.serving.service import Service
from unified.serving.streamed import StreamedResponse, as_events, until_gone

__all__ = ["ArticleAnswer"]

_log = logging.getLogger(__name__)


class ArticleAnswer:
    """Follows a generation, stores what it finishes, and tells a client of it."""

    def __init__(
        self,
        service: Service,
        generation: Generation,
        draft: ArticleDraft,
        segments: SegmentEvents,
        opening: dict[str, Any],
        *,
        status: str,
        warnings: list[str],
        release: Callable[[], None],
        completed: Callable[[SegmentEvents], None],
    ) -> None:
        """
        Args:
            service: whose generation it is.
            generation: under way.
            draft: that is stored.
            segments: its events.
            opening: the first event.
            status: of the article when all is written.
            warnings: from before.
            release: called when all is over.
            completed: called with the events of what came to its end.
        """
        self._service, self._generation = service, generation
        self._draft, self._segments, self._opening = draft, segments, opening
        self._status, self._warnings = status, warnings
        self._release, self._completed = release, completed
        self._ending: asyncio.Future[None] | None = None

    def streamed(self) -> Response:
        """Server-sent events."""
        return StreamedResponse(
            as_events(self._told()),
            "text/event-stream",
            on_end=self._end,
            on_gone=self._service.metrics.client_left,
            stall_seconds=self._service.limits.stall_seconds,
        )

    async def whole(self, request: Request, view: Callable[[], dict[str, Any]]) -> Response:
        """The article, once it is written. view: of it as it is stored."""

        async def write() -> None:
            async for _ in self._events():
                pass

        try:
            await until_gone(request, write())
        finally:
            await self._end()
        return JSONResponse(view())

    async def _end(self) -> None:
        """Let the article go; once, to its end, whoever waits for it."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._let_go())
        await asyncio.shield(self._ending)

    async def _let_go(self) -> None:
        try:
            await self._generation.close()
            await self._draft.end()
        finally:
            self._release()

    async def _told(self) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async for event in self._events():
                yield event
        except ApiError as error:
            await self._end()
            yield {"type": "error", "message": error.message, "code": error.code}
        except Exception:
            _log.exception("an article broke off")
            await self._end()
            yield {"type": "error", "message": fault().message, "code": "server_error"}

    async def _events(self) -> AsyncGenerator[dict[str, Any], None]:
        yield self._opening
        segments, asked = self._segments, self._generation.request
        async for _, event in self._generation.events():
            async for told in segments.add(event):
                if isinstance(told, FinishedSegment):
                    yield await self._draft.put(told)
                else:
                    yield told
            if isinstance(event, Done):
                self._warnings += asked.finish(event.document)
            if segments.is_over:
                await self._generation.close()
                break
        self._warnings += segments.warnings
        yield segments.progress()
        warnings = list(dict.fromkeys(self._warnings))
        warnings = await self._draft.complete(warnings, self._status)
        self._completed(segments)
        await self._end()  # whoever hears of it may change it at once
        id = self._draft.record.id
        yield {
            "type": "article.completed", "id": id, "document_url": f"/v1/articles/{id}/document",
            "warnings": warnings, "seconds": segments.seconds, "ids": segments.ids,
        }  # fmt: skip
