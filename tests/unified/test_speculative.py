"""Drafts: the very ids of one a pass, in fewer passes, and with their distribution."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from unified.engine import prefill
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

CODES = 3
TEXT = CodedText((3, 1), "prompt")
SQUARE = CodedSlot("image", (2, 2), role="response")
WARM = SpanSampling(1.0)
NUMBERS = (1, 4, 100, "auto")


def grammar_of(codes):
    vocabulary = Vocabulary.build(
        text_size=9,
        text_rows=9,
        markers=load_format("pocket").markers,
        max_grid=9,
        image=((codes,), "image"),
        audio=((4, 3), "audio"),
    )
    return Grammar.load("pocket", vocabulary)


@pytest.fixture(scope="module")
def grammar():
    return grammar_of(CODES)


@pytest.fixture(autouse=True)
def prompts_are_read_at_once(monkeypatch):
    """How many passes a prompt takes follows from times; here passes are counted."""
    monkeypatch.setattr(prefill, "_LEAST", 1 << 20)
    monkeypatch.setattr(prefill, "_FIRST", 1 << 20)


@pytest.fixture(scope="module")
def sampler(grammar, random_sampler):
    return random_sampler(grammar, spread=0.25, tied=False)


def drafting(sampling, number, **changes):
    """The same sampling with so many drafts, of every kind."""
    kinds = ("text", "image", "audio")
    parts = {kind: replace(getattr(sampling, kind), draft_tokens=number) for kind in kinds}
    return replace(sampling, **parts, **changes)


def run(engine, requests, sampling):
    """The ids of requests that an engine has at once, with the passes and the ids read for them."""
    before, done = engine.counters, {}
    handles = []
    for request in requests:
        handles.append(engine.add(request, lambda e: done.__setitem__(e.row, e), sampling))
    while engine.step():
        pass
    after = engine.counters
    assert all(isinstance(done[handle.number], Finished) for handle in handles)
    ids = [done[handle.number].ids.tolist() for handle in handles]
    return ids, after.passes - before.passes, after.ids_read - before.ids_read


def likely(decoder, head, codes, block):
    """Logits float64 (N, P, codes) of the positions of N pictures of P codes, by their ids."""
    rows = [[*head, *row.tolist()] for row in codes]
    hidden_states = decoder.forward(
        decoder.new_cache(len(rows), len(rows[0])), range(len(rows)), rows
    )
    logits = decoder.logits(hidden_states, (block,)).astype(np.float64)
    return logits.reshape(len(rows), len(rows[0]), -1)[:, len(head) - 1 : -1]


def head_of(grammar, grid, *segments):
    """The ids of a document before the codes of its picture."""
    picture = CodedImage(np.zeros((1, *grid), int), "response")
    return grammar.serialize([*segments, picture]).ids.tolist()[: -2 - grid[0] * grid[1]]


@pytest.mark.slow
def test_pictures_have_the_distribution_of_one_id_a_pass(sampler, grammar):
    """Chi-squared over the 81 pictures of 2x2 codes of three, 3,000 drawn with drafts."""
    block = grammar.vocabulary.id_range("image.0")
    every = np.array(list(product(range(CODES), repeat=4)))
    logits = likely(sampler.decoder, head_of(grammar, (2, 2), TEXT), every + block[0], block)
    weights = np.exp(logits / 0.8)
    chances = np.take_along_axis(weights / weights.sum(axis=2, keepdims=True), every[:, :, None], 2)
    expected = dict(zip(map(tuple, every.tolist()), chances.prod(axis=(1, 2))))
    sampling, ids = Sampling(image=SpanSampling(0.8, draft_tokens=3)), []
    for start in range(0, 3_000, 300):
        requests = [Request((TEXT, SQUARE), seed) for seed in range(start, start + 300)]
        ids += run(Engine(sampler.decoder, grammar, max_rows=300), requests, sampling)[0]
    seen = dict.fromkeys(expected, 0)
    for row in ids:
        seen[tuple(grammar.parse(row)[-1].codes.reshape(-1).tolist())] += 1
    assert goodness(list(seen.values()), list(expected.values())) > 1e-3


def goodness(seen, chances):
    """The p value of counts by their probabilities, the rarest in one bin."""
    seen, wanted = np.array(seen), np.array(chances) * sum(seen)
    common = wanted >= 5
    assert common.sum() > 10
    counts = [*seen[common], seen[~common].sum()]
    sums = [*wanted[common], wanted[~common].sum()]
    if sums[-1] < 5:
        counts, sums = [*counts[:-2], sum(counts[-2:])], [*sums[:-2], sum(sums[-2:])]
    return chisquare(counts, np.array(sums) * (sum(counts) / sum(sums))).pvalue


@pytest.mark.parametrize(
    ("codes", "top_k", "scale"),
    [(1_024, None, 2.0), (1_024, 60, 1.0), (8_192, None, 1.0), (8_192, 60, 2.0)],
)
def test_codes_of_real_sizes_have_their_distribution(random_sampler, codes, top_k, scale):
    """Chi-squared of codes at four positions with drafts. Each is judged by what the decoder says
    behind those that came before it: the probability of all codes that precede it in some order,
    and a random part of its own, is uniform."""
    grammar = grammar_of(codes)
    decoder = random_sampler(grammar, spread=0.3, tied=False).decoder
    block, grid = grammar.vocabulary.id_range("image.0"), (2, 2)
    heads = [head_of(grammar, grid, TEXT), head_of(grammar, grid)]
    slot = CodedSlot("image", grid, role="response")
    image = SpanSampling(0.9, top_k=top_k, guidance=Guidance(scale), draft_tokens=3)
    requests = [Request((TEXT, slot), seed) for seed in range(400)]
    ids, _, read = run(Engine(decoder, grammar), requests, Sampling(image=image))
    assert read > 400 * 4 * 1.5
    chosen = np.array(ids)[:, len(heads[0]) : -2]  # (N, 4)
    order, rng = np.random.default_rng(1).permutation(codes), np.random.default_rng(0)
    shares = []
    for part in np.split(chosen, 8):
        logits = [likely(decoder, head, part, block) for head in heads]
        guided = logits[1] + scale * (logits[0] - logits[1])  # (n, 4, codes)
        weights = np.exp((guided - guided.max(axis=2, keepdims=True)) / 0.9)
        if top_k:
            edge = np.partition(weights, -top_k, axis=2)[:, :, -top_k, None]
            weights[weights < edge * (1 - 1e-6)] = 0
        chances = (weights / weights.sum(axis=2, keepdims=True))[:, :, order]
        at = np.argsort(order)[part - block[0]][:, :, None]
        own = np.take_along_axis(chances, at, axis=2)
        assert (own > 0).all()
        below = np.take_along_axis(chances.cumsum(axis=2), at, axis=2) - own * rng.random(at.shape)
        shares.append(below[:, :, 0])
    for position in np.concatenate(shares).T:
        assert chisquare(np.histogram(position, 20, (0, 1))[0]).pvalue > 1e-4


KINDS = {
    "picture": ((TEXT, CodedSlot("image", (5, 4), role="response")), Sampling(image=WARM)),
    "greedy": ((TEXT, CodedSlot("image", (8, 7), role="response")), Sampling(image=SpanSampling())),
    "cuts": (
        (TEXT, CodedSlot("image", (4, 4), role="response")),
        Sampling(image=SpanSampling(0.7, top_k=2, top_p=0.95, min_p=0.01)),
    ),
    "guided": (
        (TEXT, CodedSlot("image", (5, 4), role="response")),
        Sampling(image=SpanSampling(0.9, guidance=Guidance(2.5))),
    ),
    "free size": ((TEXT, CodedSlot("image", role="response")), Sampling(image=WARM, max_ids=90)),
    "sound": (
        (TEXT, CodedSlot("audio", role="response")),
        Sampling(audio=replace(WARM, repetition_penalty=1.2), max_audio_frames=20),
    ),
    "text": (
        (TEXT, CodedSlot("text", role="response")),
        Sampling(SpanSampling(0.5, repetition_penalty=0.8), max_text_ids=60, max_repeats=2),
    ),
    "likeliest text": (
        (TEXT, CodedSlot("text", role="response"), CodedImage(np.ones((1, 2, 2), int), "response")),
        Sampling(SpanSampling(repetition_penalty=0.7), max_text_ids=60),
    ),
    "anything": (
        (
            CodedAudio(np.array([[1, 2], [0, 1]]), "prompt"),
            CodedSlot("any", num_images=2, role="response"),
        ),
        Sampling(WARM, WARM, replace(WARM, guidance=Guidance(1.5)), max_ids=200),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_without_drafts(sampler, kind):
    """Alone and together, with an engine that has memories of the same and of other requests."""
    segments, sampling = KINDS[kind]
    requests = [Request(segments, seed) for seed in range(6)]
    plain, passes, _ = run(sampler_of(sampler), requests, drafting(sampling, 0))
    assert len({tuple(ids) for ids in plain}) > 1 or kind in ("greedy", "likeliest text")
    for number in NUMBERS:
        engine = sampler_of(sampler)
        for _ in range(2):
            ids, fewer, _ = run(engine, requests, drafting(sampling, number))
            assert ids == plain
            assert fewer <= passes
        alone = [run(engine, [request], drafting(sampling, number))[0][0] for request in requests]
        assert alone == plain
    _, fewer, _ = run(engine_that_remembers(sampler, requests, sampling), requests,
                         drafting(sampling, 8))  # fmt: skip
    assert fewer < passes


def sampler_of(sampler):
    return Engine(sampler.decoder, sampler.grammar, sampler.text_tokenizer)


def engine_that_remembers(sampler, requests, sampling):
    engine = sampler_of(sampler)
    run(engine, requests, drafting(sampling, 8))
    return engine


def test_rows_with_and_without_drafts_share_a_pass(sampler):
    requests = [
        Request(segments, seed, drafting(sampling, number))
        for seed in range(2)
        for segments, sampling in KINDS.values()
        for number in (0, 3, "auto")
    ]
    alone = [run(sampler_of(sampler), [request], None)[0][0] for request in requests]
    for at in range(0, len(alone), 3):
        assert alone[at] == alone[at + 1] == alone[at + 2]
    for max_rows in (4, 64):
        engine = Engine(sampler.decoder, sampler.grammar, max_rows=max_rows)
        assert run(engine, requests, None)[0] == alone
