"""Requests of one engine: admission, memory, errors, callers in threads, and prefixes in common."""

import copy
import threading

import numpy as np
import pytest

from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.engine import Engine
from unified.engine.request import (
    Cancelled,
    CodedSlot,
    Failed,
    Finished,
    Request,
    Sampling,
    Step,
)
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedImage, CodedText

WARM = SpanSampling(1.0)
GUIDED = SpanSampling(1.0, guidance=Guidance(2.0))
FREE = Sampling(WARM, WARM, WARM, max_ids=120, max_text_ids=20, max_audio_frames=4)
LONG = CodedText(tuple(range(19)) * 4, "prompt")
PICTURE = CodedSlot("image", (2, 3), role="response")
TEXT = CodedSlot("text", role="response")


@pytest.fixture(scope="module")
def sampler(small_pocket, random_sampler):
    return random_sampler(small_pocket)


@pytest.fixture
def engine(sampler):
    engine = Engine(sampler.decoder, sampler.grammar, cache_bytes=sampler.decoder.cache_bytes(4000))
    yield engine
    engine.close()


def drain(engine):
    while engine.step():
        pass


def ask(engine, *requests, sampling=FREE):
    """The last events of requests that are added at once."""
    events = [[] for _ in requests]
    for request, own in zip(requests, events):
        engine.add(request, own.append, sampling)
    drain(engine)
    return [own[-1] for own in events]


def prompt(*ids):
    return CodedText(ids, "prompt")


# Admission.


@pytest.mark.parametrize(
    ("segments", "sampling", "exact"),
    [
        ((LONG, PICTURE), FREE, True),
        ((prompt(1), PICTURE, prompt(2), PICTURE), Sampling(image=GUIDED, max_ids=100), True),
        ((prompt(1), CodedSlot("audio", role="response")), FREE, False),
        ((prompt(1), TEXT, prompt(3), TEXT), FREE, False),
        ((prompt(1), CodedSlot("image", role="response")), FREE, False),
        ((CodedSlot("any"),), FREE, False),
    ],
)
def test_a_request_is_admitted_by_what_it_can_need(engine, segments, sampling, exact):
    for seed in range(5):
        (end,) = ask(engine, Request(segments, seed), sampling=sampling)
        handle = engine.add(Request(segments, seed), print, sampling)
        assert len(end.ids) <= handle.lengths[0] <= sampling.max_ids
        assert len(end.ids) == handle.lengths[0] or not exact
        engine.cancel(handle)


def test_requests_beyond_the_memory_wait_in_the_order_of_their_arrival(sampler):
    """A large one is not overtaken by small ones for ever."""
    decoder = sampler.decoder
    engine = Engine(decoder, sampler.grammar, cache_bytes=decoder.cache_bytes(120))
    sizes = [prompt(1), prompt(2), LONG, prompt(3)]
    order = []
    for text in sizes:
        request = Request((text, PICTURE), 0)
        engine.add(request, lambda event: order.append(event.row))
    engine.step()
    counters = engine.counters
    assert (counters.queued, counters.active) == (2, 2)
    assert counters.kv_bytes == 2 * decoder.cache_bytes(14)
    assert counters.kv_limit == decoder.cache_bytes(120)
    drain(engine)
    assert engine.counters.finished == 4
    assert list(dict.fromkeys(order)) == [0, 1, 2, 3]


def test_what_never_fits_is_refused_with_the_number_that_does(sampler):
    decoder = sampler.decoder
    engine = Engine(decoder, sampler.grammar, cache_bytes=2 * decoder.cache_bytes(64) + 5)
    guided = Sampling(image=GUIDED, max_ids=200)
    with pytest.raises(ValueError, match=r"need 90 ids in 2 branches.*; 64 ids fit: lower max_ids"):
        engine.add(Request((LONG, PICTURE), 0), print, guided)
    with pytest.raises(ValueError, match="the decoder has 300 positions"):
        engine.add(Request((CodedSlot("any"),), 0), print, Sampling(max_ids=301))
    with pytest.raises(ValueError, match="max_rows is 0"):
        Engine(decoder, sampler.grammar, max_rows=0)


def test_a_machine_with_less_memory_than_the_limit_says(sampler):
    """One after the other where it has memory for one; where it has none, they fail."""

    class Small(LlamaCpuDecoder):
        slots = 1

        def new_cache(self, num_slots=0, max_ids=0):
            cache = super().new_cache(num_slots, max_ids)
            allocate = cache.allocate

            def bounded(max_ids):
                if sum(slot is not None for slot in cache._slots) >= self.slots:
                    raise MemoryError
                return allocate(max_ids)

            cache.allocate = bounded
            return cache

    requests = [Request((prompt(seed), PICTURE), seed) for seed in range(3)]
    expected = [
        end.ids.tolist() for end in ask(Engine(sampler.decoder, sampler.grammar), *requests)
    ]
    decoder = copy.copy(sampler.decoder)
    decoder.__class__ = Small
    ends = ask(Engine(decoder, sampler.grammar), *requests)
    assert [end.ids.tolist() for end in ends] == expected
    decoder.slots = 0
    ends = ask(Engine(decoder, sampler.grammar), *requests)
    assert [type(end) for end in ends] == [Failed] * 3
    assert all("memory ran out" in end.reason for end in ends)


# Errors in the middle.


class Faulty(LlamaCpuDecoder):
    """Fails for a sequence that holds the id `bad`, and the first `hiccups` passes of all."""

    bad, hiccups, error = -1, 0, MemoryError()

    def forward(self, cache, slots, input_ids):
        if any(self.bad in ids for ids in input_ids):
            raise self.error
        if self.hiccups:
            self.hiccups -= 1
            super().forward(cache, slots, input_ids)
            raise self.error
        return super().forward(cache, slots, input_ids)


@pytest.fixture
def faulty(sampler):
    decoder = copy.copy(sampler.decoder)
    decoder.__class__ = Faulty
    return decoder


def mixed():
    drafted = Sampling(WARM, SpanSampling(1.0, draft_tokens=3), WARM, max_ids=100)
    guided = Sampling(WARM, GUIDED, WARM, max_ids=100)
    return [
        Request((LONG, PICTURE), 0, guided),
        Request((prompt(4), PICTURE), 1, drafted),
        Request((prompt(5, 6), TEXT), 2, FREE),
        Request((prompt(7), CodedSlot("audio", role="response")), 3, FREE),
    ]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("device lost")])
def test_whoever_makes_the_decoder_fail_is_dropped_and_others_go_on(sampler, faulty, error):
    expected = [end.ids.tolist() for end in ask(Engine(sampler.decoder, sampler.grammar), *mixed())]
    faulty.error, faulty.bad = error, 18
    engine = Engine(faulty, sampler.grammar)
    bad = Request((prompt(2, 18), TEXT), 9)
    *ends, failed = ask(engine, *mixed()[1:], bad)
    assert isinstance(failed, Failed)
    assert failed.error is error
    assert ("memory ran out" if isinstance(error, MemoryError) else "device lost") in failed.reason
    for end, ids in zip(ends, expected[1:]):
        if 18 in ids:
            assert isinstance(end, Failed)
        else:
            assert end.ids.tolist() == ids
    assert any(isinstance(end, Finished) for end in ends)
    assert engine.counters.kv_bytes == 0
    assert engine.counters.failed == 1 + sum(isinstance(end, Failed) for end in ends)


@pytest.mark.parametrize("hiccups", [1, 3])
def test_a_pass_that_fails_once_changes_no_id(sampler, faulty, hiccups):
    """Drafts included: what was drawn for the pass is not drawn again."""
    expected = [end.ids.tolist() for end in ask(Engine(sampler.decoder, sampler.grammar), *mixed())]
    engine = Engine(faulty, sampler.grammar)
    events = [[] for _ in mixed()]
    for request, own in zip(mixed(), events):
        engine.add(request, own.append)
    engine.step()
    for _ in range(hiccups):
        faulty.hiccups = 1
        engine.step()
    drain(engine)
    assert [own[-1].ids.tolist() for own in events] == expected


def test_weights_that_are_damaged_for_some_ids_fail_for_those(sampler):
    decoder = copy.copy(sampler.decoder)
    embed = decoder.embed
    decoder.embed = lambda ids: (
        embed(ids) * np.where(np.array(ids) == 18, np.nan, 1)[:, None].astype(np.float32)
    )
    with np.errstate(invalid="ignore"):
        bad, good = ask(
            Engine(decoder, sampler.grammar),
            Request((prompt(18), PICTURE), 0),
            Request((prompt(17), PICTURE), 0),
        )
    assert isinstance(bad, Failed)
    assert "not numbers" in bad.reason
    (expected,) = ask(Engine(sampler.decoder, sampler.grammar), Request((prompt(17), PICTURE), 0))
    assert good.ids.tolist() == expected.ids.tolist()


# Callers.


def test_what_a_listener_raises_ends_its_request_alone(engine):
    def listen(event):
        raise KeyError("mine")

    events = []
    engine.add(Request((prompt(1), PICTURE), 0), listen)
    engine.add(Request((prompt(2), PICTURE), 0), events.append)
    with pytest.raises(KeyError, match="mine"):
        engine.step()
    drain(engine)
    assert isinstance(events[-1], Finished)
    assert (engine.counters.failed, engine.counters.kv_bytes) == (1, 0)


def test_cancelled_and_closed_from_inside_a_step(engine):
    seen = {0: [], 1: [], 2: []}

    def listen(event):
        seen[event.row].append(event)
        if event.row == 0 and isinstance(event, Step) and event.sampled:
            engine.cancel(handles[0])
        if event.row == 1 and isinstance(event, Finished):
            engine.close()
            with pytest.raises(RuntimeError, match="inside a step"):
                engine.step()

    handles = [
        engine.add(Request((prompt(n), slot), n), listen, FREE)
        for n, slot in enumerate((TEXT, PICTURE, CodedSlot("any", role="response")))
    ]
    drain(engine)
    assert [type(events[-1]) for events in seen.values()] == [Cancelled, Finished, Cancelled]
    assert seen[0][-1].sampled < 3
    with pytest.raises(ValueError, match="closed"):
        engine.add(Request((prompt(1), PICTURE), 0), print)
    assert (engine.counters.kv_bytes, engine.counters.prefix_bytes) == (0, 0)


def test_a_paused_request_keeps_its_slot_and_goes_on_where_it_was(engine):
    (expected,) = ask(engine, Request((prompt(1), PICTURE), 0))
    events = []
    handle = engine.add(Request((prompt(1), PICTURE), 0), events.append, FREE)
    engine.step()
    engine.pause(handle)
    before, held = len(events), engine.counters.kv_bytes
    assert not engine.step()
    assert (len(events), engine.counters.kv_bytes, engine.counters.paused) == (before, held, 1)
    engine.resume(handle)
    drain(engine)
    assert events[-1].ids.tolist() == expected.ids.tolist()


def test_threads_add_while_others_step(engine):
    expected = [end.ids.tolist() for end in ask(engine, *mixed())]
    ends = {}

    def caller(number):
        done, events = threading.Event(), []

        def listen(event):
            events.append(event)
            if isinstance(event, Finished):
                done.set()

        for request in (mixed()[number % 4], mixed()[(number + 1) % 4]):
            done.clear()
            engine.add(request, listen)
            while not done.is_set():
                engine.step()
        ends[number] = [event.ids.tolist() for event in events if isinstance(event, Finished)]

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == {n: [expected[n % 4], expected[(n + 1) % 4]] for n in range(6)}
    assert engine.counters.finished == 4 + 12


# Prefixes and prompts.


def test_pictures_of_one_prompt_read_it_once(engine):
    requests = [Request((LONG, PICTURE), seed, Sampling(image=GUIDED)) for seed in range(5)]
    ends = ask(engine, *requests)
    counters = engine.counters
    prompt_length = ends[0].usage["prompt_ids"] + 3  # <image> and the sides
    # Of the unconditional branch, too: <bos> <response> <image> h w.
    assert counters.prefix_ids == 4 * (prompt_length - 1 + 4)
    assert counters.ids_read == prompt_length - 1 + 4 + 5 * 2 * 6
    # A sixth one, later, reads nothing but the last ids.
    before = counters.ids_read
    ask(engine, Request((LONG, PICTURE), 9, Sampling(image=GUIDED)))
    assert engine.counters.ids_read == before + 2 * 6


def test_regenerating_one_picture_of_an_article_reads_nothing_twice(engine):
    slots = (LONG, TEXT, PICTURE, TEXT, PICTURE)
    (article,) = ask(engine, Request(slots, 3))
    parts = engine.grammar.parse(article.ids)
    at = max(n for n, part in enumerate(parts) if isinstance(part, CodedImage))
    before = engine.counters
    (end,) = ask(engine, Request((*parts[:at], PICTURE), 4))
    prompt_length = end.usage["prompt_ids"]
    assert end.ids[:prompt_length].tolist() == article.ids[:prompt_length].tolist()
    after = engine.counters
    assert after.prefix_ids - before.prefix_ids == prompt_length + 3 - 1
    # The last id before each of its six codes.
    assert after.ids_read - before.ids_read == 6


def test_the_least_recently_used_prefix_goes_first(sampler):
    decoder = sampler.decoder
    engine = Engine(decoder, sampler.grammar, cache_bytes=3 * decoder.cache_bytes(96))
    texts = [CodedText((n, *LONG.ids[1:]), "prompt") for n in range(4)]

    def num_read(text):
        before = engine.counters.ids_read
        ask(engine, Request((text, PICTURE), 0))
        return engine.counters.ids_read - before

    whole = num_read(texts[0])
    assert [num_read(texts[n]) for n in (1, 0, 2)] == [whole - 2, 6, whole - 2]
    # Two are there beside the one that runs; 1 was used least recently.
    assert num_read(texts[3]) == whole - 2
    assert num_read(texts[0]) == 6
    assert num_read(texts[1]) == whole - 2


def test_a_long_prompt_is_read_between_the_ids_of_a_stream(sampler):
    decoder = sampler.decoder
    engine = Engine(decoder, sampler.grammar, prefill_ids=8)
    stream, other = [], []
    plain = Sampling(WARM, max_ids=120, max_text_ids=60, max_repeats=0)
    engine.add(Request((prompt(1), TEXT), 1), stream.append, plain)
    engine.step()
    handle = engine.add(Request((LONG, PICTURE), 0), other.append, FREE)
    passes = 0
    while handle.request.usage["sampled_ids"] == 0:
        before, read = len(stream), engine.counters.ids_read
        engine.step()
        passes += 1
        assert len(stream) > before or isinstance(stream[-1], Finished)
        assert engine.counters.ids_read - read <= 1 + 8
    assert passes >= len(LONG.ids) // 8
    drain(engine)
    (expected,) = ask(Engine(decoder, sampler.grammar), Request((LONG, PICTURE), 0))
    assert other[-1].ids.tolist() == expected.ids.tolist()
