"""The engine over the torch backends: the ids of the compiled one, and of each request alone."""

import random

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.backends.stepped_model import memory_errors
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Failed, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedAudio, CodedText
from unified.models.hf_checkpoint import decoder_of

KINDS = {"torch_static": TorchStaticDecoder, "transformers": TransformersDecoder}
LONG = CodedText(tuple(range(19)) * 2, "prompt")
SOUND = CodedAudio(np.array([[1, 2, 3], [4, 5, 0]]), "prompt")
WORDS = CodedText((1, 2, 3), "prompt")


@pytest.fixture(scope="module")
def hf(small_pocket):
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=small_pocket.vocabulary.size, hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=6, intermediate_size=20,
        max_position_embeddings=300, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(params=KINDS)
def decoder(request, hf):
    return KINDS[request.param](hf)


def requests(temperature, count=16):
    """Pictures, texts and sounds, some guided, some penalized, with prompts of all lengths."""
    plain = SpanSampling(temperature)
    guided = SpanSampling(temperature, guidance=Guidance(2.0))
    three = SpanSampling(temperature, guidance=Guidance(2.0, "three-way", 1.5))
    penalized = SpanSampling(temperature, repetition_penalty=1.3)
    small = CodedSlot("image", (2, 3), role="response")
    text, audio = CodedSlot("text", role="response"), CodedSlot("audio", role="response")
    limits = {"max_ids": 90, "max_audio_frames": 3, "max_text_ids": 7}
    kinds = [
        ((WORDS, small), Sampling(plain, guided, plain, **limits), (CodedText((7, 8)),)),
        ((LONG, text), Sampling(penalized, plain, plain, **limits), ()),
        ((SOUND, LONG, small), Sampling(plain, three, plain, **limits), ()),
        ((WORDS, audio), Sampling(plain, plain, guided, **limits), ()),
        ((CodedSlot("any", num_images=1, grid=(1, 2)),), Sampling(*[plain] * 3, **limits), ()),
    ]
    return [
        Request(segments, seed, sampling, negative)
        for seed in range(count)
        for segments, sampling, negative in [kinds[seed % len(kinds)]]
    ]


def ids_of(engine, some):
    events = engine.run(some, Sampling())
    return {e.row: e.ids.tolist() for e in events if isinstance(e, Finished)}


def test_sixteen_mixed_rows_choose_what_the_compiled_backend_chooses(hf, decoder, small_pocket):
    likeliest = requests(0.0)
    compiled = decoder_of(hf)
    assert compiled.backend == "cpu"
    assert decoder.backend in KINDS
    expected = ids_of(Engine(compiled, small_pocket), likeliest)
    assert len(expected) == 16
    assert ids_of(Engine(decoder, small_pocket), likeliest) == expected


def test_requests_that_join_at_any_step_choose_what_they_choose_alone(decoder, small_pocket):
    sampled = requests(1.0)
    alone = [ids_of(Engine(decoder, small_pocket), [request])[0] for request in sampled]
    engine, random_steps, ids = Engine(decoder, small_pocket, max_rows=9), random.Random(3), {}
    for number, request in enumerate(sampled):

        def on_event(event, number=number):
            if isinstance(event, Finished):
                ids[number] = event.ids.tolist()

        engine.add(request, on_event)
        for _ in range(random_steps.randrange(4)):
            engine.step()
    while engine.step():
        pass
    assert ids == dict(enumerate(alone))
    assert engine.counters.prefix_ids  # prompts that begin alike were read once


class Failing(TorchStaticDecoder):
    """Raises what torch raises for want of memory in passes that a long sequence is in."""

    def _run(self, cache, ids, positions, layout, vectors=None):
        if any(bool((group.lengths > 36).any()) for group in layout.groups):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super()._run(cache, ids, positions, layout)


def test_memory_that_runs_out_in_a_pass_fails_the_request_at_hand(hf, small_pocket):
    decoder = Failing(hf)
    some = requests(1.0, 4)
    expected = ids_of(Engine(TorchStaticDecoder(hf), small_pocket), some)
    engine, ended = Engine(decoder, small_pocket), {}
    for number, request in enumerate(some):
        engine.add(request, lambda event, number=number: ended.setdefault(number, []).append(event))
    while engine.step():
        pass
    failed = {number for number, events in ended.items() if isinstance(events[-1], Failed)}
    long = {number for number, request in enumerate(some) if LONG in request.segments}
    assert failed == long
    for number in failed:
        assert "memory ran out" in ended[number][-1].reason
    for number in set(ended) - failed:
        assert ended[number][-1].ids.tolist() == expected[number]


def test_errors_for_want_of_memory_are_memory_errors_and_others_stay():
    texts = (
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail] can't allocate memory",
    )
    for error in (torch.OutOfMemoryError("CUDA out of memory"), *map(RuntimeError, texts)):
        with pytest.raises(MemoryError), memory_errors():
            raise error
    with pytest.raises(RuntimeError, match="shapes differ"), memory_errors():
        raise RuntimeError("shapes differ")
