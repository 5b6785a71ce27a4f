"""Streams of one engine that fail, are interrupted, closed or forked."""

import os
import signal
import threading

import pytest
from streams import CASES, DRAWN, FREE, MIXED, TOLD, alone, at_once, content

from unified.engine.events import Dropped


@pytest.fixture
def model(streaming_model):
    """Whatever a test does, nothing of it stays in the engine."""
    yield streaming_model
    counters = streaming_model.engine.counters
    assert (counters.active, counters.queued, counters.kv_bytes) == (0, 0, 0)


@pytest.fixture(scope="module")
def expected(streaming_model):
    return [alone(streaming_model, *case) for case in CASES]


def test_an_error_of_a_codec_reaches_its_own_stream(model, expected, monkeypatch):
    def fails(coded):
        raise ZeroDivisionError("a codec")

    decode = model.sequencer.decode_segment
    monkeypatch.setattr(
        model.sequencer,
        "decode_segment",
        lambda coded: (fails if coded.kind == "image" else decode)(coded),
    )

    def drawn():
        with pytest.raises(ZeroDivisionError, match="a codec"):
            alone(model, DRAWN, 1)
        return True

    outcomes = at_once([drawn, lambda: alone(model, *CASES[1]), lambda: alone(model, *CASES[2])])
    assert outcomes == [True, expected[1], expected[2]]


def test_memory_that_runs_out_drops_one_document(model, expected, monkeypatch):
    """The others of the call go on, and a verb says which is missing."""
    engine = model.engine
    forward = engine.decoder.forward

    def limited(cache, slots, input_ids):
        if any(cache.lengths[slot] + len(ids) > 100 for slot, ids in zip(slots, input_ids)):
            raise MemoryError
        return forward(cache, slots, input_ids)

    monkeypatch.setattr(engine.decoder, "forward", limited)
    events = list(model.stream([TOLD, DRAWN], FREE, [1, 1]))
    dropped = [event for event in events if isinstance(event, Dropped)]
    assert [event.row for event in dropped] == [0]
    assert "memory ran out" in dropped[0].reason
    assert content([event for event in events if event.row == 1]) == expected[0]
    with pytest.raises(ValueError, match="document 0 was dropped: memory ran out"):
        model.generate(TOLD, sampling=FREE, seed=1)


def test_ctrl_c_ends_one_stream_and_no_others(model, expected):
    def interrupted():
        raised = False

        def ctrl_c():
            nonlocal raised
            if not raised:
                raised = True
                signal.raise_signal(signal.SIGINT)
            return False

        with pytest.raises(KeyboardInterrupt):
            list(model.stream([MIXED], FREE, cancelled=ctrl_c))

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    engine = model.engine
    others = [threading.Thread(target=lambda case=case: told.append(alone(model, *case)))
              for case in CASES[:3]]  # fmt: skip
    told = []
    for thread in others:
        thread.start()
    interrupted()
    for thread in others:
        thread.join(60)
    assert sorted(told, key=str) == sorted(expected[:3], key=str)
    assert model.engine is engine


def test_an_engine_that_fails_is_replaced(model, expected, monkeypatch):
    """A step that raises, which no error of a request does, ends all streams with its reason."""
    engine = model.engine
    stream = model.stream([MIXED], FREE)
    next(stream)
    with monkeypatch.context() as patched:
        patched.setattr(engine._engine, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(model.stream([DRAWN], FREE))
        with pytest.raises(RuntimeError, match="in the midst of a step: ZeroDivisionError"):
            list(stream)
    assert not engine.usable
    assert alone(model, *CASES[0]) == expected[0]
    assert model.engine is not engine


def test_a_closed_engine_gives_its_memory_back_and_the_next_call_makes_another(model, expected):
    engine = model.engine
    stream = model.stream([DRAWN], FREE)
    next(stream)
    assert engine.counters.kv_bytes
    engine.close()
    assert isinstance(list(stream)[-1], Dropped)
    assert engine.counters.kv_bytes == engine.counters.prefix_bytes == 0
    with pytest.raises(ValueError, match="closed"):
        engine.stream([DRAWN], FREE)
    assert alone(model, *CASES[0]) == expected[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_an_engine_of_its_own(model, expected):
    stream = model.stream([DRAWN], FREE, [1])
    first = next(stream)
    child = os.fork()
    if not child:
        try:
            stream.close()
            os._exit(0 if alone(model, *CASES[2]) == expected[2] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert content([first, *stream]) == expected[0]


def test_a_command_takes_little_memory_for_kv_slots(model):
    """Where documents fit in it several times; one that needs more has what the engine takes."""
    from unified.cli.asking import fill

    request = model.request_document(DRAWN, sampling=FREE)
    try:
        documents = fill(model, request, 3, 0)
        assert model.engine.counters.kv_limit == 96 << 20
    finally:
        model.limit_engine()
    assert documents == model.generate(DRAWN, 3, sampling=FREE)
