"""Requests that join, leave and pause at any step: each gives the ids that it gives alone."""

from dataclasses import replace

import numpy as np
import pytest

from unified.engine.engine import Engine
from unified.engine.request import Cancelled, CodedSlot, Finished, Request, Sampling, Step
from unified.engine.sampler import Guidance, LevelSampling, SpanSampling
from unified.formats.coded import CodedAudio, CodedImage, CodedText, SpanEnd

SCHEDULES, TOGETHER = 300, 200  # of ids in a row, and of several in a position
WARM = SpanSampling(1.0)
GUIDED = SpanSampling(1.0, guidance=Guidance(2.0))
THREE_WAY = SpanSampling(1.0, guidance=Guidance(2.0, "three-way", 1.5))
DRAFTED = SpanSampling(1.0, draft_tokens=3)
BY_LEVEL = SpanSampling(
    0.7,
    guidance=Guidance(1.5),
    levels=(LevelSampling(top_k=3), LevelSampling(1.4, min_p=0.05), LevelSampling(0.0)),
)
PENALIZED = SpanSampling(0.8, top_p=0.9, repetition_penalty=1.3)


def requests(levels):
    """Short ones of every kind; many begin alike, some with a prompt of several chunks.

    levels: of sound, and of pictures.
    """
    words, long = CodedText((1, 2, 3), "prompt"), CodedText(tuple(range(19)) * 2, "prompt")
    sound = CodedAudio(np.array([[1, 2, 3], [4, 5, 0], [3, 0, 1]])[: levels[0]], "prompt")
    picture = CodedImage(np.arange(12).reshape(2, 2, 3)[: levels[1]] % 5, "prompt")
    text = CodedSlot("text", role="response")
    small = CodedSlot("image", (1, 3), role="response")
    plain = Sampling(WARM, WARM, WARM, max_ids=80, max_audio_frames=3, max_text_ids=6)
    guided = Sampling(WARM, GUIDED, GUIDED, max_ids=80, max_audio_frames=3, max_text_ids=6)
    three = Sampling(THREE_WAY, THREE_WAY, WARM, max_ids=80, max_text_ids=5)
    drafted = Sampling(WARM, DRAFTED, DRAFTED, max_ids=80, max_audio_frames=3, max_text_ids=6)
    penalized = Sampling(PENALIZED, WARM, PENALIZED, max_ids=80, max_audio_frames=3, max_text_ids=6)
    by_level = replace(plain, audio=BY_LEVEL, image=BY_LEVEL)
    kinds = [
        ((words, small), plain, ()),
        ((words, small), guided, (CodedText((7, 8)),)),
        ((long, small), guided, ()),
        ((long, text), plain, ()),
        ((long, CodedSlot("audio", role="response")), drafted, ()),
        ((picture, words, text), three, ()),
        ((picture, long, CodedSlot("image", (2, 2), role="response")), three, ()),
        ((picture, words, CodedSlot("image", (2, 2), role="response")), drafted, ()),
        ((sound, text, CodedText((4,), "prompt"), text), penalized, ()),
        ((CodedSlot("any", num_images=1, grid=(1, 2)),), guided, ()),
        ((sound, CodedSlot("audio", role="response"), long, small), plain, ()),
        ((words, CodedSlot("audio", role="response"), words, small), by_level, ()),
    ]
    return [
        Request(segments, seed, sampling, negative)
        for seed in range(2)
        for segments, sampling, negative in kinds
    ]


@pytest.fixture(scope="module")
def sampler(small_pocket, random_sampler):
    return random_sampler(small_pocket)


def each_alone(sampler, levels):
    """(request, its ids in an engine of its own)"""
    pairs = []
    for request in requests(levels):
        (end,) = (e for e in sampler.run([request], Sampling()) if isinstance(e, Finished))
        pairs.append((request, end.ids.tolist()))
    return pairs


class Caller:
    """A request in a schedule: when it joins, and what is done to it meanwhile."""

    def __init__(self, rng, request, ids):
        self.request, self.ids, self.events, self.handle = request, ids, [], None
        self.joins = int(rng.integers(12))
        self.leaves = int(rng.integers(1, 25)) if rng.random() < 0.2 else None
        self.rests = set(rng.integers(30, size=3).tolist()) if rng.random() < 0.4 else ()
        self.rest = int(rng.integers(1, 6))

    def act(self, engine, now):
        if now == self.joins:
            self.handle = engine.add(self.request, self.events.append)
        if self.handle is None:
            return
        if self.leaves is not None and now == self.joins + self.leaves:
            engine.cancel(self.handle)
        if now - self.joins in self.rests:
            engine.pause(self.handle)
        if now - self.joins - self.rest in self.rests:
            engine.resume(self.handle)


def run_schedule(sampler, alone, seed):
    """Callers at the end of a random schedule, and the counters of their engine."""
    rng = np.random.default_rng(seed)
    callers = [Caller(rng, *alone[at]) for at in rng.integers(len(alone), size=rng.integers(2, 7))]
    decoder = sampler.decoder
    engine = Engine(
        decoder,
        sampler.grammar,
        max_rows=int(rng.integers(1, 5)),
        # From what the largest needs alone to what all need at once.
        cache_bytes=decoder.cache_bytes(96) * int(rng.integers(3, 20)),
        prefill_ids=int(rng.choice([1, 7, 64])),
    )
    if rng.random() < 0.5:
        # Prompts in chunks, a layer a pass, as where a pass has time for a few ids alone.
        budget = engine._scheduler._budget
        budget.wants_layers, budget.layers = lambda: True, lambda: 1
        budget.chunk = lambda: int(rng.integers(1, 6))
    now = 0
    while now < 60 or not all(caller.handle.ended for caller in callers):
        for caller in callers:
            caller.act(engine, now)
        engine.step()
        now += 1
        if now % 5 == 0:
            counters = engine.counters
            assert counters.kv_bytes + counters.prefix_bytes <= counters.kv_limit
        assert now < 1000
    assert not engine.step()
    return callers, engine


def test_schedules_change_no_id(sampler):
    check_schedules(sampler, each_alone(sampler, (2, 1)), range(SCHEDULES))


@pytest.mark.parametrize("output", ["depth", "per level", "heads"])
def test_schedules_change_no_id_of_positions_of_several(small_together, together_sampler, output):
    sampler = together_sampler(small_together, output)
    first = ("depth", "per level", "heads").index(output)
    check_schedules(sampler, each_alone(sampler, (3, 2)), range(first, TOGETHER, 3))


def check_schedules(sampler, alone, seeds):
    total = 0
    for seed in seeds:
        callers, engine = run_schedule(sampler, alone, seed)
        ends = [caller.events.pop() for caller in callers]
        usage = {}
        for caller, end in zip(callers, ends):
            assert end.row == caller.handle.number
            assert all(isinstance(step, Step) for step in caller.events)
            request = caller.handle.request
            if isinstance(end, Finished):
                assert end.ids.tolist() == caller.ids, (seed, caller.request)
                told = [e.event.segment for e in caller.events if isinstance(e.event, SpanEnd)]
                assert len(told) == len(sampler.grammar.parse(end.ids))
                total += 1
            else:
                assert isinstance(end, Cancelled)
                assert caller.leaves is not None
                assert request.ids == caller.ids[: len(request.ids)]
            # What was reserved for it was enough, though never much more.
            for branch, length in zip(request.branches.values(), caller.handle.lengths):
                assert len(branch.positions) <= length
            for name, number in request.usage_so_far().items():
                usage[name] = usage.get(name, 0) + number
        check_counters(engine.counters, ends, usage)
        engine.close()
        pool = engine._scheduler.pool
        assert engine.counters.prefix_bytes == 0
        assert not pool._bytes
        assert not pool._ids
        assert not len(pool._tree)
    assert total > 3 * len(seeds)


def check_counters(counters, ends, usage):
    """The numbers of an engine in which all requests have ended."""
    finished = sum(isinstance(end, Finished) for end in ends)
    assert (counters.finished, counters.cancelled) == (finished, len(ends) - finished)
    assert (counters.queued, counters.active, counters.failed) == (0, 0, 0)
    assert counters.kv_bytes == 0
    for name in ("prompt_ids", "sampled_ids", "forced_ids"):
        assert getattr(counters, name) == usage[name]
    assert sum(counters.by_modality.values()) == usage["sampled_ids"] + usage["forced_ids"]
