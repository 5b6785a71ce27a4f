"""Positions of several ids in the engine: what a plain loop in torch writes, in any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import SpanSampling
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
