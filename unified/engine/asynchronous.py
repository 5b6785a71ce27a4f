"""Sampling beside other tasks: an iterator run in a thread of its own, awaited item by item."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")
AHEAD = 32


async def in_thread(make: Callable[[Callable[[], bool]], Iterator[T]]) -> AsyncGenerator[T, None]:
    """The items of `make(cancelled)`; what it raises is raised here.

    cancelled: says yes once the loop over the items is left or its task is cancelled. Leaving waits
    for the thread, which is to look at it often. At most `AHEAD` items wait to be taken: whoever
    takes them slowly slows the thread down, and memory stays bounded.
    """
    loop = asyncio.get_running_loop()
    room = threading.Semaphore(AHEAD)
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    leave = threading.Event()

    def tell(what: str, item: Any = None) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, (what, item))
        except RuntimeError:  # the loop is closed: nobody listens any more
            leave.set()

    def wait_for_room() -> None:
        while not leave.is_set() and not room.acquire(timeout=1):
            if loop.is_closed():
                leave.set()

    def work() -> None:
        try:
            for item in make(leave.is_set):
                wait_for_room()
                if not leave.is_set():  # nobody takes what comes after that
                    tell("item", item)
        except BaseException as error:
            tell("error", error)
        else:
            tell("end")

    thread = threading.Thread(target=work, name="unified sampling", daemon=True)
    thread.start()
    try:
        while True:
            what, item = await queue.get()
            room.release()
            if what == "end":
                return
            if what == "error":
                raise item
            yield item
    finally:
        leave.set()
        room.release()  # for the thread that waits to tell one more
        await asyncio.shield(asyncio.to_thread(thread.join))
