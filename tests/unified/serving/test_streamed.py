"""Streams to clients that read slowly or not at all, by what they send."""

from __future__ import annotations

import asyncio

import pytest

from unified.serving.streamed import StreamedResponse


async def _parts(closed):
    try:
        for number in range(3):
            yield b"%d" % number
    finally:
        closed.append(True)


def _answer(send, leave=None, stall_seconds=3600.0):
    """(bodies that were sent, what happened) of a stream of three parts.

    send: awaited with each body. leave: an event after which the client is gone.
    """
    bodies, happened, closed = [], [], []

    async def run():
        gone = asyncio.Event() if leave is None else leave

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def sent(message):
            if message["type"] == "http.response.body":
                await send(message["body"])
                bodies.append((message["body"], message["more_body"]))

        async def end():
            happened.append("end")

        answer = StreamedResponse(
            _parts(closed), "text/plain", on_end=end, on_gone=lambda: happened.append("gone"),
            stall_seconds=stall_seconds,
        )  # fmt: skip
        await answer({"type": "http"}, receive, sent)

    asyncio.run(run())
    assert closed, "what makes the parts was left open"
    return bodies, happened


async def _take(body):
    pass


def test_a_client_that_takes_all_gets_the_end():
    bodies, happened = _answer(_take)
    assert bodies == [(b"0", True), (b"1", True), (b"2", True), (b"", False)]
    assert happened == ["end"]


def test_a_client_that_takes_nothing_more_is_let_go():
    async def stall(body):
        if body == b"1":
            await asyncio.Event().wait()

    bodies, happened = _answer(stall, stall_seconds=0.01)
    assert bodies == [(b"0", True)]
    assert happened == ["gone", "end"]


@pytest.mark.parametrize("body", [b"0", b"2"])
def test_a_client_that_goes_away_while_a_part_is_sent_ends_the_stream(body):
    leave = asyncio.Event()

    async def send(part):
        if part == body:
            leave.set()
            await asyncio.Event().wait()

    bodies, happened = _answer(send, leave)
    assert [part for part, _ in bodies] == [b"0", b"1"][: int(body)]
    assert happened == ["gone", "end"]


def test_a_connection_that_fails_leaves_a_body_without_its_end():
    async def fail(body):
        if body == b"2":
            raise OSError("reset")

    bodies, happened = _answer(fail)
    assert bodies == [(b"0", True), (b"1", True)]
    assert happened == ["gone", "end"]
