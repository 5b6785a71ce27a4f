"""Streams for asyncio: a thread of the driver's samples for all of them, and the loop is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from unified.engine.events import Event
from unified.engine.streaming import EventStream

__all__ = ["async_events"]


async def async_events(begin: Callable[[], EventStream]) -> AsyncGenerator[Event, None]:
    """The events of a stream; what it raises is raised here.

    begin: makes the stream; called in a thread, since documents are tokenized. Whoever leaves the
    loop over the events, or is cancelled, cancels what is not complete: its KV slots are free when
    that returns, a step later.
    """
    stream = await _begun(begin)
    loop, more = asyncio.get_running_loop(), asyncio.Event()
    is_told = False  # that there is more: a busy loop is not woken again for each event

    def look() -> None:
        nonlocal is_told
        is_told = False  # before the loop looks, so that it is told of what comes thereafter
        more.set()

    def tell() -> None:
        nonlocal is_told
        if is_told:
            return
        is_told = True
        try:
            loop.call_soon_threadsafe(look)
        except RuntimeError:  # the loop is closed: nobody listens any more
            stream.leave()

    stream.listener = tell
    stream.in_background(loop.is_closed)
    try:
        while True:
            more.clear()  # before looking, so that nothing is missed that comes thereafter
            finished = stream.finished
            while (event := stream.take()) is not None:
                yield event
            if stream.error is not None:
                raise stream.error
            if finished:
                return
            await more.wait()
    finally:
        stream.listener = None
        stream.leave()  # now, whatever the threads are busy with that wait for its end
        await asyncio.shield(asyncio.to_thread(stream.close))


async def _begun(begin: Callable[[], EventStream]) -> EventStream:
    """The stream; where the task is cancelled meanwhile, the stream is left once it is there."""
    beginning = asyncio.ensure_future(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(_leave_unused)
        raise


def _leave_unused(beginning: asyncio.Future[EventStream]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        stream = beginning.result()
        stream.leave()
        # The engine lets go of requests in its next step, which nobody else may be there to run.
        stream.in_background(lambda: True)
