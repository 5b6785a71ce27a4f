"""Sampling at the sizes of a 7B model's user: 250,000 ids, codebooks of 32,768 and 65,536, prompts
of 8,000 ids, a hundred rows. Two narrow layers: what is tried is everything around the products."""

import numpy as np
import pytest
from cache_lengths import Lengths

from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.engine import Engine
from unified.engine.prefix_cache import common_prefix
from unified.engine.repetition import columns_of
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling, penalize
from unified.formats.coded import CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

TEXT = 151_936


@pytest.fixture(scope="module")
def sampler():
    vocabulary = Vocabulary.build(
        text_size=TEXT, text_rows=152_064, markers=load_format("pocket").markers, max_grid=128,
        image=((32_768,), "image"), audio=((65_536,), "audio"),
    )  # fmt: skip
    config = LlamaCpuConfig(
        hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6, intermediate_size=20,
        vocab_size=vocabulary.size, max_position_embeddings=32_768, norm_eps=1e-6,
        inv_freq=default_inv_freq(1e4, 6), qk_norm=True, tie_word_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(5)
    weights = {
        name: rng.standard_normal(shape, np.float32) * np.float32(0.4) + ("norm" in name)
        for name, shape in config.shapes().items()
    }
    return Engine(LlamaCpuDecoder(config, weights), Grammar.load("pocket", vocabulary))


def ids_of(sampler, requests, sampling):
    ids_by_row = {e.row: e.ids for e in sampler.run(requests, sampling) if isinstance(e, Finished)}
    for ids in ids_by_row.values():
        sampler.grammar.validate(ids)
    return [ids_by_row[row].tolist() for row in range(len(requests))]


def prompt(length, seed=0):
    ids = np.random.default_rng(seed).integers(0, TEXT, length)
    return CodedText(tuple(ids.tolist()), "prompt")


def test_a_hundred_rows_of_large_codebooks_are_as_they_are_alone(sampler):
    """With the defaults of a published model: guidance, top-k of 2,048, and drafts among them."""
    square = CodedSlot("image", (2, 3), role="response")
    guided = SpanSampling(1.0, top_k=2_048, guidance=Guidance(3.0))
    sound = SpanSampling(0.6, top_p=0.8)
    own = [
        Sampling(image=guided, max_ids=400),
        Sampling(image=SpanSampling(1.0, top_p=0.96, draft_tokens=4), max_ids=400),
        Sampling(audio=sound, max_ids=400, max_audio_frames=6),
        Sampling(text=SpanSampling(0.7, top_p=0.9, repetition_penalty=1.1), max_text_ids=6),
    ]
    slots = [
        square,
        square,
        CodedSlot("audio", role="response"),
        CodedSlot("text", role="response"),
    ]
    requests = [Request((prompt(200), slots[row % 4]), row, own[row % 4]) for row in range(100)]
    together = ids_of(sampler, requests, Sampling(max_rows=100))
    for row in (0, 1, 2, 3, 98, 99):
        assert ids_of(sampler, [requests[row]], Sampling()) == [together[row]]


def test_a_prompt_of_8000_ids_is_read_and_penalized(sampler):
    text = SpanSampling(0.7, top_p=0.9, repetition_penalty=1.2)
    sampling = Sampling(text=text, max_ids=9_000, max_text_ids=40)
    request = Request((prompt(8_000), CodedSlot("text", role="response")), 0)
    (ids,) = ids_of(sampler, [request], sampling)
    assert 8_000 < len(ids) <= 8_050


def test_the_columns_of_many_ids_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    ids, ranges = set(rng.integers(0, 300_000, 9_000).tolist()), ((5, 90_000), (150_000, 250_000))
    listed = [*range(5, 90_000), *range(150_000, 250_000)]
    assert {listed[column] for column in columns_of(ids, ranges)} == ids & set(listed)
    logits = rng.standard_normal(len(listed)).astype(np.float32)
    changed = penalize(logits, columns_of(ids, ranges), 2.0) != logits
    assert {listed[column] for column in np.flatnonzero(changed)} == ids & set(listed)


def test_long_prompts_that_begin_alike_are_compared_right():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 9, 32_000).tolist()
    for length in (0, 1, 2, 511, 31_998, 31_999):
        other = [*base[:length], 99, *base[length + 1 :]]
        assert common_prefix(base, other) == length
        assert common_prefix(base, base[:length]) == length


class Reader:
    """A decoder that counts its input ids, a byte each, and finds the first of all likeliest."""

    batch_invariant, max_positions, num_ids = True, 131_072, 0

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size

    def available_bytes(self):
        return 40_000_000

    def cache_bytes(self, max_ids):
        return max_ids

    def new_cache(self):
        return Lengths()

    def forward(self, cache, slots, input_ids):
        for slot, ids in zip(slots, input_ids):
            cache.lengths[slot] += len(ids)
            self.num_ids += len(ids)
        return np.zeros((sum(map(len, input_ids)), 1), np.float32)

    def logits(self, hidden_states, ranges):
        return np.zeros((len(hidden_states), sum(stop - start for start, stop in ranges)))


def test_many_long_prompts_share_what_they_have_in_common(sampler):
    reader, base = Reader(sampler.grammar.vocabulary.size), prompt(4_000).ids
    engine = Engine(reader, sampler.grammar, cache_bytes=10**6)
    slot = CodedSlot("image", (1, 1), role="response")
    requests = [Request((CodedText((*base, row, 7), "prompt"), slot), 0) for row in range(40)]
    for request in requests:
        engine.add(request, lambda event: None, Sampling(max_ids=5_000))
    while engine.step():
        pass
    # <bos> <prompt> text <response> <image> h w, and the code. The first is read as a whole, the
    # others from where they part; the last ids of a sequence need not be read.
    assert engine.counters.ids_read == reader.num_ids == 2 + 4_000 + 40 * 6
    assert engine.counters.finished == 40


def test_what_can_never_fit_is_refused_with_what_does(sampler):
    engine = Engine(Reader(sampler.grammar.vocabulary.size), sampler.grammar, cache_bytes=30_000)
    request = Request((prompt(29_000), CodedSlot("text", role="response")), 0)
    with pytest.raises(ValueError, match=r"can need 30,204 ids, .*; 30,000 ids fit: lower max_ids"):
        engine.add(request, print, Sampling(max_text_ids=1_200, max_ids=40_000))
