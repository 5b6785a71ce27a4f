"""One engine for all: threads, tasks and callbacks that stream at once, leave early and fail."""

import asyncio
import sys
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from streams import CASES, DRAWN, FREE, MIXED, SPOKEN, TOLD, alone, at_once, content

from unified.engine.driver import Driver
from unified.engine.events import Done, Dropped, ImageDone, ImageRow, TextPiece
from unified.engine.media_worker import MediaWorker


@pytest.fixture
def model(streaming_model):
    """Whatever a test does, nothing of it stays in the engine."""
    yield streaming_model
    counters = streaming_model.engine.counters
    assert (counters.active, counters.queued, counters.kv_bytes) == (0, 0, 0)


@pytest.fixture(scope="module")
def expected(streaming_model):
    return [alone(streaming_model, *case) for case in CASES]


def test_eight_threads_get_what_each_gets_alone(model, expected):
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)  # so that they meet
    try:
        for _ in range(3):
            jobs = [lambda case=case: alone(model, *case) for case in CASES]
            assert at_once(jobs) == expected
    finally:
        sys.setswitchinterval(before)


def test_who_takes_nothing_pauses_while_others_go_on(model, expected):
    """After a bounded number of events; and it gets what it gets alone once it takes them."""
    slow = model.stream([TOLD], FREE, [1])
    events = [next(slow)]
    for _ in range(3):
        assert alone(model, *CASES[3]) == expected[3]
    counters = model.engine.counters
    assert (counters.active, counters.paused) == (1, 1)
    sampled = counters.sampled_ids
    assert alone(model, *CASES[0]) == expected[0]
    (_, _, ids, _, _) = expected[0]
    assert model.engine.counters.sampled_ids - sampled <= len(ids)
    assert content(events + list(slow)) == expected[2]


@pytest.mark.parametrize("limits", [{"max_rows": 2}, {"cache_bytes": 80_000}], ids=str)
def test_a_full_engine_takes_the_slots_of_who_has_paused(model, expected, limits):
    """Rows and memory: who takes nothing slows nobody down, and goes on as if nothing had been."""
    model.limit_engine(**limits)
    try:
        slow = [model.stream([TOLD], FREE, [seed]) for seed in (1, 2)]
        events = [[next(stream)] for stream in slow]
        outcomes = [alone(model, *case) for case in CASES[:4]]
        assert model.engine.counters.paused == 2
        assert outcomes == expected[:4]
        jobs = [lambda o=own, s=stream: content(o + list(s)) for own, stream in zip(events, slow)]
        assert at_once(jobs) == [expected[2], expected[6]]
    finally:
        model.limit_engine()


def test_a_thread_that_ends_in_the_midst_of_its_stream_holds_up_nobody(model, expected):
    streams = []

    def begin():
        streams.append(model.stream([MIXED], FREE))
        next(streams[0])

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    jobs = [lambda case=case: alone(model, *case) for case in CASES[:3]]
    assert at_once(jobs) == expected[:3]
    streams[0].close()


@pytest.mark.parametrize("way", ["close", "raise", "forget"])
def test_leaving_early_frees_the_slots(model, way):
    stream = model.stream([DRAWN, SPOKEN, MIXED], FREE)
    with suppress(ZeroDivisionError):
        for event in stream:
            if isinstance(event, ImageRow):  # in the midst of a picture
                assert model.engine.counters.active == 3
                break
        if way == "raise":
            raise ZeroDivisionError
    if way != "forget":
        stream.close()
    del stream, event
    assert model.engine.counters.active == 0


def test_at_most_max_rows_of_a_call_are_in_the_engine(model):
    most, done = 0, []
    for event in model.stream([DRAWN] * 7, replace(FREE, max_rows=3)):
        counters = model.engine.counters
        most = max(most, counters.active + counters.queued)
        done += [event.row] * isinstance(event, Done)
    assert most == 3
    assert sorted(done) == list(range(7))
    bad = [FREE] * 4 + [replace(FREE, max_ids=5)]
    with pytest.raises(ValueError, match="raise max_ids"):
        next(model.stream([DRAWN] * 5, [replace(own, max_rows=2) for own in bad]))


def test_a_picture_is_cancelled_in_its_midst_and_others_go_on(model, expected):
    """More pictures than may wait to be taken: one is in its midst when the first row is taken."""
    stop = threading.Event()

    def cancelled():
        rows = 0
        pictures = model.stream([DRAWN] * 40, replace(FREE, max_rows=1), cancelled=stop.is_set)
        for event in pictures:
            if isinstance(event, ImageRow):
                stop.set()
                rows += 1
            last = event
        assert isinstance(last, Dropped)
        return rows

    jobs = [cancelled, *(lambda case=case: alone(model, *case) for case in CASES[:4])]
    rows, *others = at_once(jobs)
    assert 0 < rows < 40 * 2
    assert others == expected[:4]


def test_five_tasks_of_one_event_loop(model, expected):
    """One thread samples for all of them, and one of them is cancelled."""
    threads = set()

    async def take(case):
        events = []
        async for event in model.astream([case[0]], FREE, [case[1]]):
            events.append(event)
            threads.update(t.ident for t in threading.enumerate() if t.name == "unified sampling")
        return content(events)

    async def main():
        tasks = [asyncio.create_task(take(case)) for case in CASES[:4]]
        endless = asyncio.create_task(take((MIXED, 9)))
        await asyncio.sleep(0.01)
        endless.cancel()
        with suppress(asyncio.CancelledError):
            await endless
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == expected[:4]
    assert len(threads) <= 2  # the next one where all have been left meanwhile


def test_documents_with_callbacks(model, expected, caplog):
    """One whose callback raises is dropped alone, one is cancelled, one is paused for a while."""
    events = [[] for _ in CASES]

    def raises(event):
        if isinstance(event, ImageRow):
            raise ZeroDivisionError("never mind")

    bad = model.submit(DRAWN, raises, sampling=FREE)
    late = model.submit(MIXED, lambda event: None, sampling=FREE)
    late.cancel()
    waiting = model.submit(TOLD, lambda event: None, sampling=FREE, seed=1)
    waiting.pause()
    good = [
        model.submit(document, own.append, seed=seed, sampling=FREE)
        for (document, seed), own in zip(CASES, events)
    ]
    assert [job.result() for job in good] == [outcome[3] for outcome in expected]
    assert [content(own) for own in events] == expected
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert "its document is dropped" in caplog.text
    with pytest.raises(ValueError, match="dropped: cancelled after"):
        late.result()
    assert bad.done
    assert late.done
    assert not waiting.done
    waiting.resume()
    assert waiting.result() == expected[2][3]


def test_a_callback_that_would_wait_for_itself_is_told_so(model):
    """In the thread that steps and in the one that decodes."""
    errors = []

    def on_event(event):
        if isinstance(event, TextPiece | ImageDone) and len(errors) < 2:
            with pytest.raises(RuntimeError, match="use another thread") as error:
                model.generate(TOLD)
            errors.append(error)

    model.submit(MIXED, on_event, sampling=FREE, seed=3).result()
    model.submit(DRAWN, on_event, sampling=FREE).result()
    assert errors


def test_media_are_decoded_beside_the_sampling(model, expected, monkeypatch):
    """While a picture is decoded, another stream is told all of its own, and its row in order."""
    other, decode = threading.Event(), model.sequencer.decode_segment

    def slowly(coded):
        if coded.kind == "image":
            assert threading.current_thread().name == "unified decoding"
            assert other.wait(60)
        return decode(coded)

    monkeypatch.setattr(model.sequencer, "decode_segment", slowly)

    def told():
        outcome = alone(model, *CASES[2])
        other.set()
        return outcome

    assert at_once([lambda: alone(model, *CASES[3]), told]) == [expected[3], expected[2]]


def test_a_partial_picture_is_decoded_while_sampling_goes_on(model, monkeypatch):
    decode = model.sequencer.decode_image

    def after_a_pass(codes):
        before, deadline = model.engine.counters.passes, threading.Event()
        for _ in range(1_000):
            if model.engine.counters.passes > before or deadline.wait(0.01):
                return decode(codes)
        raise AssertionError("nobody sampled meanwhile")

    with monkeypatch.context() as patched:
        patched.setattr(model.sequencer, "decode_image", after_a_pass)
        events = model.stream([DRAWN, TOLD], FREE)
        row = next(event for event in events if isinstance(event, ImageRow))
        picture = row.picture()
    np.testing.assert_array_equal(picture, row.picture())  # and once more, when nobody samples
    (done,) = [event for event in events if isinstance(event, ImageDone)]
    assert picture.shape == (24, *done.image.pixels.shape[1:])


def test_what_is_decoded_when_the_interpreter_ends_is_waited_for(model):
    """And what waits is dropped."""
    worker = MediaWorker(Driver(model.engine._engine))
    begun, go_on, jobs = threading.Event(), threading.Event(), []

    def job():
        begun.set()
        go_on.wait(60)
        jobs.append("first")

    worker.put(job)
    worker.put(lambda: jobs.append("second"))
    begun.wait(60)
    ending = threading.Thread(target=worker.stop)
    ending.start()
    while worker._jobs:
        pass
    assert ending.is_alive()
    go_on.set()
    ending.join(60)
    worker.put(lambda: jobs.append("third"))
    assert jobs == ["first"]
