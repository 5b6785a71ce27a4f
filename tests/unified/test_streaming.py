"""Streams: sound in chunks, pictures as they grow, stops, asyncio, and leaving in the middle."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from unified import Sampling, SpanSampling
from unified.engine.asynchronous import async_events
from unified.engine.events import (
    AudioBegun,
    AudioChunk,
    AudioDone,
    Done,
    Dropped,
    ImageDone,
    ImageRow,
    TextPiece,
)
from unified_data.document import Document, Slot, Text

# Without guesses: a pass is one id, so that what is left after an event can be counted.
WARM = SpanSampling(1.0, draft_tokens=0)
FREE = Sampling(WARM, WARM, WARM, max_ids=200)
DRAWN = Document((Text("a cat", "prompt"), Slot("image", 96, 72, role="response")))
SPOKEN = Document((Text("a cat", "prompt"), Slot("audio", role="response")))
TOLD = Document((Text("a cat", "prompt"), Slot("text", role="response")))


@pytest.fixture
def model(streaming_model):
    return streaming_model


def test_chunks_of_sound_joined_are_the_sound(model):
    """And the sound is what its codes decode to at once."""
    sampling = Sampling(audio=WARM, max_audio_frames=17)
    lengths = []
    for seed in range(4):
        events = list(model.stream([SPOKEN], sampling, [seed]))
        chunks = [event.waveform for event in events if isinstance(event, AudioChunk)]
        (done,) = (event for event in events if isinstance(event, AudioDone))
        np.testing.assert_array_equal(np.concatenate(chunks, 1), done.audio.waveform)
        coded = model.grammar.parse(events[-1].ids)[-1]
        whole = model.sequencer.decode_audio(coded.codes)
        np.testing.assert_allclose(done.audio.waveform, whole, atol=1e-5)
        assert isinstance(events[0], AudioBegun)
        lengths.append(len(chunks))
    assert max(lengths) >= 3


def test_a_picture_can_be_seen_while_it_grows(model):
    events = list(model.stream([DRAWN], FREE))
    rows = [event for event in events if isinstance(event, ImageRow)]
    (done,) = (event for event in events if isinstance(event, ImageDone))
    seen = [row.picture() for row in rows]
    assert [picture.shape for picture in seen] == [(24 * y, 72, 3) for y in range(1, 5)]
    np.testing.assert_array_equal(seen[-1], done.image.pixels)
    assert len({picture.tobytes() for picture in seen}) == 4


def test_a_stop_ends_the_text_and_is_cut_off(model):
    """Wherever it begins, across ids too; nothing of it is told before."""
    plain = model.generate(TOLD, sampling=FREE)[0].segments[-1].text
    assert len(plain) > 12
    for at in (0, 3, 7):
        stop = plain[at : at + 3]
        first = plain.index(stop)
        sampling = Sampling(WARM, WARM, WARM, max_ids=200, stop=("never there", stop))
        events = list(model.stream([TOLD], sampling))
        pieces = [event.text for event in events if isinstance(event, TextPiece)]
        document = events[-1].document
        told = document.segments[-1].text if len(document.segments) > 1 else ""
        assert told == "".join(pieces) == plain[:first]


def kinds_by_row(events):
    """Events of a row come in order, those of several as they come up."""
    rows = {0: [], 1: []}
    for event in events:
        rows[event.row].append(type(event))
    return rows


def test_asyncio_gives_the_same_events_and_lets_others_run(model):
    expected = kinds_by_row(model.stream([DRAWN, SPOKEN], FREE))
    others = 0

    async def other():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other())
        events = [event async for event in model.astream([DRAWN, SPOKEN], FREE)]
        task.cancel()
        return kinds_by_row(events)

    assert asyncio.run(main()) == expected
    assert others > 3


def test_leaving_an_asyncio_loop_frees_its_slots(model):
    """The thread that samples pauses before it has made the events of so many pictures."""
    many = Document((Text("two cats", "prompt"), Slot("any", num_images=7, role="response")))

    async def main():
        events = model.astream([many] * 3, replace(FREE, max_ids=250))
        async for _ in events:
            break
        counters = model.engine.counters
        assert counters.active + counters.queued > 0
        await events.aclose()
        return model.engine.counters

    counters = asyncio.run(main())
    assert (counters.active, counters.queued, counters.kv_bytes) == (0, 0, 0)


def test_leaving_waits_for_no_thread_that_others_have(model):
    """The loop has one thread, which is busy until the request has left the engine."""
    many = Document((Text("two cats", "prompt"), Slot("any", num_images=7, role="response")))
    busy = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        events = model.astream([many] * 3, replace(FREE, max_ids=250))
        await anext(events)
        assert model.engine.counters.active
        waiting = loop.run_in_executor(None, busy.wait, 10)
        leaving = asyncio.create_task(events.aclose())
        while model.engine.counters.active and not waiting.done():
            await asyncio.sleep(0.001)
        left_first = not waiting.done()
        busy.set()
        await asyncio.gather(waiting, leaving)
        return left_first

    assert asyncio.run(main())


def test_what_is_left_while_it_is_begun_leaves_the_engine_by_itself(model):
    """The task is gone when its requests join, and nobody else steps the engine."""
    many = Document((Text("two cats", "prompt"), Slot("any", num_images=7, role="response")))
    go_on = threading.Event()

    def begin():
        assert go_on.wait(30)
        return model.engine.stream([many] * 3, replace(FREE, max_ids=250))

    async def main():
        task = asyncio.create_task(anext(async_events(begin)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        for _ in range(1000):
            counters = model.engine.counters
            if counters.cancelled == before + 3:
                return counters
            await asyncio.sleep(0.01)
        raise AssertionError(counters)

    before = model.engine.counters.cancelled
    counters = asyncio.run(main())
    assert (counters.active, counters.queued) == (0, 0)


def test_errors_in_the_thread_are_raised_to_whoever_waits(model):
    async def main():
        async for _ in model.astream([DRAWN], Sampling(max_ids=5)):
            pass

    with pytest.raises(ValueError, match="raise max_ids"):
        asyncio.run(main())


def test_a_stream_cancelled_from_another_thread_ends_within_a_step(model):
    stop, events = threading.Event(), []
    for event in model.stream([DRAWN, SPOKEN], FREE, cancelled=stop.is_set):
        events.append(event)
        if isinstance(event, ImageRow):
            threading.Thread(target=stop.set).start()
            stop.wait()
    dropped = [event for event in events if isinstance(event, Dropped)]
    assert dropped[-1].reason.startswith("cancelled after")
    assert not any(isinstance(event, Done) and event.row == 0 for event in events)
    assert sum(isinstance(event, ImageRow) for event in events) == 1
