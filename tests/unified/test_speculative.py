"""Drafts: fewer steps of the decoder, and the distribution of one id a step."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling, distribution
from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

CODES = 3
TEXT = CodedText((3, 1), "prompt")
SQUARE = CodedSlot("image", (2, 2), role="response")


@pytest.fixture(scope="module")
def grammar():
    vocabulary = Vocabulary.build(
        text_size=9,
        text_rows=9,
        markers=load_format("pocket").markers,
        max_grid=9,
        image=((CODES,), "image"),
        audio=((4, 3), "audio"),
    )
    return Grammar.load("pocket", vocabulary)


@pytest.fixture(scope="module")
def sampler(grammar, random_sampler):
    return random_sampler(grammar, spread=0.25, tied=False)


def runs(sampler, requests, sampling):
    ids = {e.row: e.ids for e in sampler.run(requests, sampling) if isinstance(e, Finished)}
    return [ids[row].tolist() for row in range(len(requests))]


def counted(sampler, requests, sampling):
    """The ids, and how often the decoder was asked."""
    forward, steps = sampler.decoder.forward, []

    def counting(cache, slots, input_ids):
        steps.append(len(input_ids))
        return forward(cache, slots, input_ids)

    sampler.decoder.forward = counting
    try:
        return runs(sampler, requests, sampling), len(steps)
    finally:
        del sampler.decoder.forward


def exact(sampler, grammar, choosing):
    """The probability of every picture of 2x2 codes, by fresh passes over all of its ids."""
    decoder, vocabulary = sampler.decoder, grammar.vocabulary
    block = vocabulary.id_range("image.0")

    def prompt_ids(*segments):
        laid = grammar.serialize([*segments, CodedImage(np.zeros((1, 2, 2), int), "response")])
        return laid.ids.tolist()[: -2 - 4]

    heads = [prompt_ids(TEXT)] + ([prompt_ids()] if choosing.guidance.conditions else [])
    chances = {}
    for codes in product(range(CODES), repeat=4):
        ids = [block[0] + code for code in codes]
        logits = []
        for head in heads:
            whole = head + ids
            hidden_states = decoder.forward(decoder.new_cache(1, 60), [0], [whole])
            logits.append(decoder.logits(hidden_states[len(head) - 1 : -1], (block,)))
        guided = logits[0]
        if len(heads) > 1:
            guided = logits[1] + choosing.guidance.scale * (logits[0] - logits[1])
        chances[codes] = float(np.prod(distribution(guided, choosing)[range(4), codes]))
    assert abs(sum(chances.values()) - 1) < 1e-4
    return chances


@pytest.mark.parametrize(
    "choosing",
    [SpanSampling(1.0), SpanSampling(0.7, top_p=0.9), SpanSampling(1.0, guidance=Guidance(2.5))],
    ids=["plain", "nucleus", "guided"],
)
def test_the_distribution_is_that_of_one_id_a_step(sampler, grammar, choosing):
    """Chi-squared over the 81 pictures of 2x2 codes of three, 3,000 drawn with drafts."""
    expected = exact(sampler, grammar, choosing)
    sampling = Sampling(image=replace(choosing, draft_tokens=3), max_ids=60)
    number = 3_000
    requests = [Request((TEXT, SQUARE), seed) for seed in range(number)]
    seen = dict.fromkeys(expected, 0)
    for ids in runs(sampler, requests, replace(sampling, max_rows=500)):
        seen[tuple(grammar.parse(ids)[-1].codes.reshape(-1).tolist())] += 1
    assert all(seen[codes] == 0 for codes, chance in expected.items() if chance == 0)
    rare = [codes for codes, chance in expected.items() if 0 < chance * number < 5]
    common = [codes for codes, chance in expected.items() if chance * number >= 5]
    assert len(common) > 10
    counts = [seen[codes] for codes in common] + [sum(seen[codes] for codes in rare)]
    wanted = [expected[codes] for codes in common] + [sum(expected[codes] for codes in rare)]
    bins = [(f, w * number) for f, w in zip(counts, wanted) if w > 0]
    total = sum(f for f, _ in bins)
    scale = total / sum(w for _, w in bins)
    assert chisquare([f for f, _ in bins], [w * scale for _, w in bins]).pvalue > 1e-3


def test_the_likeliest_ids_are_the_same_in_fewer_steps(sampler):
    requests = [Request((TEXT, CodedSlot("image", (8, 7), role="response")), 0)]
    plain, steps = counted(sampler, requests, Sampling(image=SpanSampling(), max_ids=120))
    for drafts in (1, 4, 100):
        ids, fewer = counted(
            sampler, requests, Sampling(image=SpanSampling(draft_tokens=drafts), max_ids=120)
        )
        assert ids == plain
        assert fewer < steps


@pytest.mark.parametrize("drafts", [2, 5])
def test_rows_with_drafts_are_as_they_are_alone(sampler, drafts):
    """Beside rows without, with guidance, of sound, whose span has no end that is known."""
    warm = SpanSampling(1.0, draft_tokens=drafts)
    own = [
        Sampling(image=warm, audio=warm, max_ids=90),
        Sampling(image=SpanSampling(0.9, guidance=Guidance(3.0), draft_tokens=drafts), max_ids=90),
        Sampling(image=SpanSampling(1.0), max_ids=90),
    ]
    sound = CodedAudio(np.array([[1, 2], [0, 1]]), "prompt")
    asked = [
        (TEXT, CodedSlot("image", (5, 4), role="response")),
        (TEXT, CodedSlot("audio", role="response")),
        (sound, CodedSlot("any", num_images=2, role="response")),
    ]
    requests = [
        Request(segments, seed, sampling)
        for seed in range(3)
        for segments in asked
        for sampling in own
    ]
    alone = [runs(sampler, [request], Sampling())[0] for request in requests]
    for max_rows in (4, 64):
        assert runs(sampler, requests, Sampling(max_rows=max_rows)) == alone


def test_drafts_are_not_for_text():
    with pytest.raises(ValueError, match=r"text\.draft_tokens"):
        Sampling(text=SpanSampling(draft_tokens=2))
    with pytest.raises(ValueError, match="draft_tokens is -1"):
        SpanSampling(draft_tokens=-1)
