"""An article while it is written: every finished segment is stored before a client hears of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from unified.serving.api_errors import ApiError
from unified.serving.article_library import ArticleLibrary
from unified.serving.article_record import ArticleRecord, ArticleVersion, Row
from unified.serving.article_view import segment_view
from unified.serving.segment_events import FinishedSegment
from unified_data.document import Media

__all__ = ["ArticleDraft", "not_saved"]

_log = logging.getLogger(__name__)
_NOTHING = "nothing was written, so all is as it was; try another seed"
_SAME = "the same came out again, so all is as it was; try another seed, or a higher temperature"
_STOPPED = "this was stopped before its end; what was finished is here"


def not_saved(error: ValueError) -> ApiError:
    """The 507 of what the disk did not take."""
    return ApiError(507, f"the article is not saved: {error}", code="not_saved")


class ArticleDraft:
    """One change of an article under way.

    A change of many segments is a version from its begin on, which grows; that of a single segment
    becomes one once it is finished.

    record: the article as it is stored now.
    """

    def __init__(
        self,
        library: ArticleLibrary,
        record: ArticleRecord,
        compose: Callable[[Sequence[Row]], ArticleVersion],
        first: int,
        *,
        is_begun: bool = False,
        grows: bool = True,
    ) -> None:
        """
        Args:
            library: where it is stored.
            record: the article before.
            compose: the version that segments, the first of index `first`, make.
            first: index of the segment that is written first.
            is_begun: whether the article's present version is this change's.
            grows: whether each segment is stored by itself.
        """
        self.record = record
        self._library, self._compose, self._first = library, compose, first
        self._is_begun, self._grows = is_begun, grows
        self._rows: dict[int, Row] = {}
        self._saving: asyncio.Future[Any] | None = None
        self._is_over = False

    @property
    def version(self) -> ArticleVersion:
        """What was written so far."""
        return self._compose([self._rows[index] for index in sorted(self._rows)])

    async def begin(self, rows: Sequence[Row] = ()) -> None:
        """Store the article as the change begins. rows: segments of the user's own."""
        for number, row in enumerate(rows):
            self._rows[self._first + number] = row
        await self._save("writing", ())

    async def put(self, finished: FinishedSegment) -> dict[str, Any]:
        """Store a finished segment, and return the event that tells of it."""
        segment = finished.segment
        (row,) = await self._in_thread(self._library.rows, self.record.id, [segment])
        self._rows[finished.index] = row
        if self._grows:
            await self._save("writing", ())
        rows = self.version.segments
        view = await asyncio.to_thread(
            segment_view, self._library, self.record.id, rows, finished.index
        )
        told: dict[str, Any] = {
            "type": "segment.done", "segment": finished.index, "kind": row["type"],
        }  # fmt: skip
        names = ("text", "blocks", "image", "audio")
        told |= {name: view[name] for name in names if name in view}
        if isinstance(segment, Media) and segment.modality not in ("image", "audio"):
            told["noun"] = segment.noun
        return told

    async def complete(self, warnings: Sequence[str], status: str = "completed") -> list[str]:
        """Store what is complete. Returns the warnings, perhaps more of them.

        A segment that came out as it was is no version of its own.
        """
        self._is_over = True
        before = self.record.version.segments
        if not self._rows and not self._is_begun:
            return [*warnings, _NOTHING]
        if not self._grows and self.version.segments == before:
            return [*warnings, _SAME]
        await self._save(status, warnings)
        return list(warnings)

    async def end(self) -> None:
        """Whatever happened: what was written by now is stored, as far as the disk takes it."""
        if self._saving is not None:  # that a client's leaving cut off from its caller
            await asyncio.wait([self._saving])
        try:
            if not self._is_over and self._grows and self._is_begun:
                self._is_over = True
                await self._save("stopped", (_STOPPED,))
            await asyncio.to_thread(self._library.collect, self.record)
        except (ApiError, OSError) as error:
            _log.warning("article %s: %s", self.record.id, error)

    async def _save(self, status: str, warnings: Sequence[str]) -> None:
        version = replace(self.version, warnings=tuple(warnings))
        if self._grows:
            version = replace(version, status=status)
        now = time.time()
        record = (self.record.amend if self._is_begun else self.record.push)(version, now)
        await self._in_thread(self._library.save, record)
        self.record, self._is_begun = record, True

    async def _in_thread(self, function: Callable[..., Any], *values: Any) -> Any:
        self._saving = asyncio.ensure_future(asyncio.to_thread(function, *values))
        try:
            return await asyncio.shield(self._saving)
        except ValueError as error:
            raise not_saved(error) from None
