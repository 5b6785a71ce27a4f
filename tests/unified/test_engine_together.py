"""Positions of several ids in the engine: what a plain loop in torch writes, in any company."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Failed, Finished, Request, Sampling
from unified.engine.sampler import Guidance, LevelSampling, SpanSampling
from unified.formats.coded import CodedAudio, CodedText

PROMPT = CodedText((1, 2, 3), "prompt")
SOUND = CodedAudio(np.array([[1, 2, 4], [4, 5, 0], [0, 3, 1]]), "prompt")
AUDIO, PICTURE = CodedSlot("audio", role="response"), CodedSlot("image", (2, 3), role="response")
LIKELIEST = SpanSampling()
GREEDY = Sampling(image=LIKELIEST, audio=LIKELIEST, max_ids=120, max_audio_frames=5)


def finished(engine, requests, sampling=GREEDY):
    return [event for event in engine.run(requests, sampling) if isinstance(event, Finished)]


def in_torch(weights, depth, grammar, ids):
    """Logits (V,) of every id of a sequence but the first, all from scratch; and its depths."""
    config = Qwen3Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=6, intermediate_size=20, vocab_size=grammar.vocabulary.size, rms_norm_eps=1e-6,
        rope_theta=1e4, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).eval()
    model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    state, depths = grammar.start(), []
    for id in ids:
        depths.append(state.depth)
        state.advance(id)
    starts = [at for at, depth_ in enumerate(depths) if not depth_]
    positions = [ids[a:b] for a, b in zip(starts, [*starts[1:], len(ids)])]
    every = ((0, grammar.vocabulary.size),)
    with torch.inference_mode():
        embedded = torch.stack(
            [model.model.embed_tokens(torch.tensor(own)).sum(0) for own in positions]
        )
        hidden_LD = model.model(inputs_embeds=embedded[None]).last_hidden_state[0]
        logits = []
        for before, own in zip(hidden_LD, positions[1:]):
            logits.append(model.lm_head(before))
            if depth is None:
                logits += [model.lm_head(before)] * (len(own) - 1)
            elif len(own) > 1:
                states = depth(before[None], torch.tensor([own[:-1]]))
                logits += list(depth.logits(states, every)[0, 1:])
    return [row.numpy() for row in logits], depths


@pytest.mark.parametrize("output", ["depth", "per level", "heads"])
def test_ids_are_those_of_a_plain_loop(small_together, together_sampler, output):
    sampler = together_sampler(small_together, output)
    for slot in (AUDIO, PICTURE):
        (end,) = finished(sampler, [Request((PROMPT, SOUND, slot), 0)])
        ids = end.ids.tolist()
        logits, depths = in_torch(sampler.weights, sampler.depth_module, small_together, ids)
        assert depths.count(2) >= 3
        state, checked = small_together.start(), 0
        for at, id in enumerate(ids):
            allowed = [i for start, stop in state.allowed() for i in range(start, stop)]
            full = slot is AUDIO and at == len(ids) - 2  # the end of five frames is forced
            if at >= end.usage["prompt_ids"] and state.level >= 0 and not full:
                row = logits[at - 1][allowed]
                assert allowed[int(row.argmax())] == id
                checked += 1
            state.advance(id)
        assert checked == end.usage["sampled_ids"]


@pytest.mark.parametrize("output", ["depth", "heads"])
def test_guidance_covers_every_level(small_together, together_sampler, output):
    sampler = together_sampler(small_together, output)
    guided = SpanSampling(guidance=Guidance(2.5))
    handle = sampler.add(Request((PROMPT, AUDIO), 0), print, replace(GREEDY, audio=guided))
    while not handle.ended:
        sampler.step()
    branches = handle.request.branches
    full, without = (
        [id for own in branch.positions for id in (own if isinstance(own, tuple) else (own,))]
        for branch in (branches["full"], branches["unconditional"])
    )
    with_prompt, depths = in_torch(sampler.weights, sampler.depth_module, small_together, full)
    blank, _ = in_torch(sampler.weights, sampler.depth_module, small_together, without)
    state, checked = small_together.start(), 0
    begin = small_together.vocabulary.marker("<audio>")
    later = full.index(begin) - without.index(begin)
    for at, id in enumerate(full):
        if depths[at]:
            ((start, stop),) = state.allowed()
            c, u = with_prompt[at - 1][start:stop], blank[at - 1 - later][start:stop]
            assert start + int((u + 2.5 * (c - u)).argmax()) == id
            checked += 1
        state.advance(id)
    assert checked == 10


LATER = SpanSampling(2.0, levels=(LevelSampling(), LevelSampling(temperature=0.0)))


@pytest.mark.parametrize("output", ["depth", "heads"])
def test_levels_have_parameters_of_their_own(small_together, together_sampler, output):
    """Level 0 is drawn, the others are the likeliest; the last parameters hold for all behind."""
    sampler = together_sampler(small_together, output)
    sampling = replace(GREEDY, audio=LATER)
    ends = finished(sampler, [Request((PROMPT, AUDIO), seed) for seed in range(6)], sampling)
    assert len({tuple(end.ids) for end in ends}) == len(ends)
    for end in ends:
        ids = end.ids.tolist()
        logits, depths = in_torch(sampler.weights, sampler.depth_module, small_together, ids)
        state = small_together.start()
        for at, id in enumerate(ids):
            if depths[at]:
                ((start, stop),) = state.allowed()
                assert start + int(logits[at - 1][start:stop].argmax()) == id
            state.advance(id)


def test_levels_have_parameters_of_their_own_in_a_row(small_pocket, random_sampler):
    sampler = random_sampler(small_pocket)
    decoder, drawn = sampler.decoder, 0
    for seed in range(6):
        (end,) = finished(sampler, [Request((PROMPT, AUDIO), seed)], replace(GREEDY, audio=LATER))
        ids, state = end.ids.tolist(), small_pocket.start()
        hidden = decoder.forward(decoder.new_cache(1, len(ids)), [0], [ids])
        for at, id in enumerate(ids):
            if state.level >= 0 and id != small_pocket.vocabulary.marker("</audio>"):
                logits = decoder.logits(hidden[at - 1 : at], state.allowed())[0]
                likeliest = [i for a, b in state.allowed() for i in range(a, b)][logits.argmax()]
                assert state.level == 0 or id == likeliest
                drawn += state.level == 0 and id != likeliest
            state.advance(id)
    assert drawn > 3


def test_parameters_of_levels_survive_json_and_are_checked():
    sampling = Sampling(audio=LATER)
    assert Sampling.from_json(json.loads(json.dumps(sampling.to_json()))) == sampling
    assert hash(LATER) == hash(replace(LATER, levels=list(LATER.levels)))
    with pytest.raises(ValueError, match="top_p is 2"):
        Sampling.from_json({"audio": {"levels": [{}, {"top_p": 2.0}]}})
    with pytest.raises(ValueError, match=r"levels\[0\] is 'x', expected a LevelSampling"):
        SpanSampling(levels=("x",))
    with pytest.raises(ValueError, match=r"image.repetition_penalty"):
        Sampling(image=SpanSampling(levels=(LevelSampling(repetition_penalty=1.2),)))


class Failing:
    """`PositionCodes` that fail for some of their rows, or as a whole."""

    def __init__(self, codes, hidden_states, spoils):
        self.codes, self.spoils = codes, spoils
        self.bad = [row for row, state in enumerate(hidden_states) if spoils(state)]

    def append(self, rows, ids):
        self.codes.append(rows, ids)

    def logits(self, rows, ranges):
        if set(rows) & set(self.bad):
            raise RuntimeError("the depth decoder broke")
        return self.codes.logits(rows, ranges)


@pytest.mark.parametrize("output", ["depth", "depth in one call", "heads"])
def test_an_error_inside_a_position_ends_its_request_alone(
    small_together, together_sampler, output, monkeypatch
):
    sampler = together_sampler(small_together, output.split()[0])
    texts = [CodedText((1, 2 + seed, 3), "prompt") for seed in range(4)]
    requests = [Request((text, AUDIO), seed) for seed, text in enumerate(texts)]
    sampling = replace(GREEDY, audio=SpanSampling(1.0))
    alone = [finished(sampler, [request], sampling)[0].ids.tolist() for request in requests]
    decoder = sampler.decoder
    begin, write, marked = decoder.begin_positions, decoder.write_positions, []

    def spoils(state):
        return any((state == other).all() for other in marked)

    def mark(hidden_states):
        if not marked and len(hidden_states) > 1:  # one of the rows, wherever it comes again
            marked.append(hidden_states[1].copy())

    def failing(hidden_states):
        mark(hidden_states)
        return Failing(begin(hidden_states), hidden_states, spoils)

    def failing_write(hidden_states, choices):
        mark(hidden_states)
        if any(map(spoils, hidden_states)):
            raise RuntimeError("the depth decoder broke")
        return write(hidden_states, choices)

    monkeypatch.setattr(decoder, "writes_positions", output == "depth in one call")
    monkeypatch.setattr(decoder, "begin_positions", failing)
    monkeypatch.setattr(decoder, "write_positions", failing_write)
    engine, events = Engine(decoder, small_together), [[] for _ in requests]
    for request, own in zip(requests, events):
        engine.add(request, own.append, sampling)
    while engine.step():
        pass
    ends = [own[-1] for own in events]
    failed = [at for at, end in enumerate(ends) if isinstance(end, Failed)]
    assert len(failed) == 1, ends
    assert "the depth decoder broke" in ends[failed[0]].reason
    for at, (end, ids) in enumerate(zip(ends, alone)):
        if at not in failed:
            assert end.ids.tolist() == ids
    assert engine.counters.kv_bytes == 0
    # What it left serves others as far as it holds whole positions.
    again: list = []
    monkeypatch.undo()
    engine.add(requests[failed[0]], again.append, sampling)
    while engine.step():
        pass
    assert again[-1].ids.tolist() == alone[failed[0]]
    engine.close()


def test_a_budget_of_ids_ends_before_a_position_that_it_cannot_hold(
    small_together, together_sampler
):
    sampler = together_sampler(small_together)
    request = Request((PROMPT, AUDIO), 1)
    lengths = set()
    for max_ids in range(13, 26):
        sampling = replace(GREEDY, audio=SpanSampling(5.0), max_ids=max_ids, max_audio_frames=None)
        (end,) = finished(sampler, [request], sampling)
        assert len(end.ids) <= max_ids
        (sound,) = small_together.parse(end.ids)[1:]
        assert sound.codes.shape[0] == 3
        lengths.add(sound.codes.shape[1])
    assert lengths >= {1, 2, 3}


def test_memory_and_positions_are_counted_in_positions(small_together, together_sampler):
    sampler = together_sampler(small_together)
    decoder = sampler.decoder
    sampling = replace(GREEDY, max_ids=600, max_audio_frames=150)
    # 450 ids of codes, which the decoder has no positions for one by one.
    handle = sampler.add(Request((PROMPT, AUDIO), 0), print, sampling)
    assert handle.lengths == [6 + 1 + 150 + 2]
    sampler.cancel(handle)
    free = Sampling(max_text_ids=None)
    handle = sampler.add(Request((PROMPT, AUDIO), 0), print, free)
    assert handle.lengths[0] <= decoder.max_positions
    assert handle.request.max_ids > decoder.max_positions
    sampler.cancel(handle)
    handle = sampler.add(Request((PROMPT, CodedSlot("any", role="response")), 0), print, free)
    assert handle.lengths[0] == decoder.max_positions
    sampler.cancel(handle)
    with pytest.raises(ValueError, match="309 ids asked for, but the decoder has 300 positions"):
        sampler.add(
            Request((PROMPT, AUDIO), 0), print, replace(sampling, max_ids=950, max_audio_frames=300)
        )
    sampler.step()


def test_a_backend_that_writes_one_id_a_position_is_refused(small_together, together_sampler):
    class Plain:
        backend, vocab_size = "plain", 1000

    with pytest.raises(ValueError, match="positions of 3 ids, and the backend 'plain'"):
        Engine(Plain(), small_together)
