"""Guidance: what its branches are shown, what it makes of logits, and that rows stay themselves."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
)

from unified.engine.active import ActiveRequest
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling, choose, guide, penalize
from unified.formats.coded import CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary

TEXT = CodedText((3, 1, 4), "prompt")
PICTURE = CodedImage(np.array([[[1, 0, 5]]]), "prompt")
DRAW = CodedSlot("image", (2, 3), role="response")


@pytest.fixture(scope="module")
def grammar(small_pocket):
    return small_pocket


@pytest.fixture(scope="module")
def sampler(grammar, random_sampler):
    return random_sampler(grammar)


def with_guidance(guidance, temperature=0.0):
    image = SpanSampling(temperature, guidance=guidance, draft_tokens=0)  # passes are counted
    return Sampling(image=image, audio=SpanSampling(temperature), max_ids=70)


def ids_of(sampler, requests, sampling):
    ids = {e.row: e.ids for e in sampler.run(requests, sampling) if isinstance(e, Finished)}
    return [ids[row].tolist() for row in range(len(requests))]


def last_logits(sampler, ids):
    decoder = sampler.decoder
    hidden_states = decoder.forward(decoder.new_cache(1, len(ids)), [0], [ids])
    return decoder.logits(hidden_states[-1:], ((0, decoder.vocab_size),))[0]


def ids(grammar, *segments):
    return grammar.serialize(segments, end=False).ids.tolist()


BRANCHES = {
    "two-way": (Guidance(3.0), (TEXT,), {"prompt": ()}),
    "show-o": (Guidance(2.0, "show-o"), (TEXT,), {"prompt": ()}),
    "three-way": (
        Guidance(3.0, "three-way", 1.5),
        (PICTURE, TEXT),
        {"prompt": (), "text": (PICTURE,)},
    ),
    "three-way, no scale of the picture": (
        Guidance(3.0, "three-way"),
        (PICTURE, TEXT),
        {"text": (PICTURE,)},
    ),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_guided_ids_are_the_likeliest_of_logits_worked_out_by_hand(sampler, grammar, name):
    """Every id of a picture, by fresh passes over the whole of each branch."""
    guidance, prompt_segments, branches = BRANCHES[name]
    sampled = ids_of(sampler, [Request((*prompt_segments, DRAW), 0)], with_guidance(guidance))[0]
    role = grammar.vocabulary.marker("<response>")
    prompt = [*ids(grammar, *prompt_segments), role]
    others = {key: [*ids(grammar, *segments), role] for key, segments in branches.items()}
    assert sampled[: len(prompt)] == prompt
    state = grammar.start()
    for id in prompt:
        state.advance(id)
    state.restrict(Limits(allow=("image",), single=True, image_grid=(2, 3), max_ids=70))
    chosen = 0
    for at in range(len(prompt), len(sampled)):
        allowed = [id for start, stop in state.allowed() for id in range(start, stop)]
        if len(allowed) > 1:
            codes_so_far = sampled[len(prompt) : at]
            c = last_logits(sampler, prompt + codes_so_far)
            logits = {key: last_logits(sampler, ids + codes_so_far) for key, ids in others.items()}
            s, k = guidance.scale, guidance.image_scale
            if guidance.formula == "three-way":
                i = logits["text"]
                u = logits.get("prompt", i)
                guided = u + k * (i - u) + s * (c - i)
            elif guidance.formula == "show-o":
                guided = (1 + s) * c - s * logits["prompt"]
            else:
                guided = logits["prompt"] + s * (c - logits["prompt"])
            assert sampled[at] == allowed[int(guided[allowed].argmax())]
            chosen += 1
        state.advance(sampled[at])
    assert chosen == 6


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_scale_that_changes_nothing_is_no_guidance(sampler, temperature):
    requests = [Request((TEXT, DRAW), seed) for seed in range(4)]
    plain = ids_of(sampler, requests, with_guidance(Guidance(), temperature))
    for none in (Guidance(1, "log-softmax"), Guidance(0, "show-o"), Guidance(1, "three-way", 1)):
        assert none.conditions == ()
        assert ids_of(sampler, requests, with_guidance(none, temperature)) == plain
    strong = with_guidance(Guidance(6.0), temperature)
    assert ids_of(sampler, requests, strong) != plain


def test_log_softmax_guidance_draws_what_two_way_draws():
    """Logarithms of probabilities are logits but for one number, which no draw sees."""
    rng = np.random.default_rng(3)
    c, u = rng.normal(size=(2, 1, 40)).astype(np.float32)

    def log_softmax(x):
        return x - np.log(np.exp(x).sum())

    by_hand = log_softmax(u) + 3 * (log_softmax(c) - log_softmax(u))
    ours = guide(Guidance(3.0, "log-softmax"), c, {"unconditional": u})
    np.testing.assert_allclose(log_softmax(by_hand), log_softmax(ours), atol=1e-4)


def test_rows_with_parameters_of_their_own_are_as_they_are_alone(sampler):
    """Guided and plain, warm and greedy, of all modalities, in one batch and in each order."""
    warm = SpanSampling(1.0, top_k=5, min_p=0.02)
    own = [
        with_guidance(Guidance(4.0), 0.8),
        with_guidance(Guidance(2.0, "three-way", 1.5)),
        Sampling(text=warm, image=warm, audio=warm, max_ids=60),
        Sampling(text=SpanSampling(repetition_penalty=1.8), max_ids=50),
        with_guidance(Guidance(), 1.3),
    ]
    asked = [
        (TEXT, DRAW),
        (PICTURE, TEXT, DRAW),
        (TEXT, CodedSlot("any", num_images=1, num_audios=1, role="response")),
        (TEXT, CodedSlot("text", role="response")),
        (TEXT, CodedSlot("audio", role="response")),
    ]
    requests = [
        Request(segments, seed, sampling)
        for seed in range(3)
        for segments, sampling in zip(asked, own)
    ]
    alone = [ids_of(sampler, [request], Sampling())[0] for request in requests]
    for order in (1, -1):
        for max_rows in (3, 64):
            together = ids_of(sampler, requests[::order], Sampling(max_rows=max_rows))
            assert together[::order] == alone


def test_negative_prompts_stand_where_the_prompt_stood(sampler, grammar):
    negative = (CodedText((7, 8), "prompt"),)
    row = ActiveRequest(
        0, Request((TEXT, DRAW), 0, None, negative), grammar, with_guidance(Guidance(2)), 70
    )
    role = grammar.vocabulary.marker("<response>")
    image = grammar.vocabulary.marker("<image>")
    branch_ids = row.branches["unconditional"].positions
    assert branch_ids[: branch_ids.index(image)] == [*ids(grammar, *negative), role]
    assert row.ids[: row.ids.index(image)] == [*ids(grammar, TEXT), role]
    plain, other = (
        ids_of(sampler, [Request((TEXT, DRAW), 0, None, n)], with_guidance(Guidance(5)))
        for n in ((), negative)
    )
    assert plain != other


def test_formats_that_say_so_blank_the_prompt_out():
    """Janus: every id of the prompt's text becomes <pad>, so that both branches are as long."""
    vocabulary = Vocabulary.build(
        text_size=19, text_rows=19, markers=load_format("janus").markers, max_grid=1,
        image=((5,), "image"),
    )  # fmt: skip
    grammar = Grammar.load("janus", vocabulary)
    request = Request((CodedText((3, 4, 5)), CodedSlot("image")), 0)
    row = ActiveRequest(0, request, grammar, with_guidance(Guidance(5.0)), 700)
    pad, bos, boi = (vocabulary.marker(name) for name in ("<pad>", "<bos>", "<boi>"))
    assert row.ids == [bos, 3, 4, 5, boi]
    assert row.branches["unconditional"].positions == [bos, pad, pad, pad, boi]


def test_a_prompt_shared_by_many_rows_is_read_once(sampler):
    """And so is what several prompts begin with."""
    seen = []
    forward = sampler.decoder.forward

    def counting(cache, slots, input_ids):
        seen.append(sum(map(len, input_ids)))
        return forward(cache, slots, input_ids)

    text = CodedText(tuple(range(18)), "prompt")
    requests = [Request((text, DRAW), seed) for seed in range(5)]
    sampler.decoder.forward = counting
    try:
        ids_of(sampler, requests, with_guidance(Guidance(), 1.0))
        whole = sum(seen)
        seen.clear()
        ids_of(sampler, requests, replace(with_guidance(Guidance(), 1.0), max_rows=1))
    finally:
        del sampler.decoder.forward
    prompt = 1 + 1 + 18 + 1 + 3  # begin, role, text, role, and what a picture begins with
    steps = 5 * 5  # of a picture of 6 codes all but the first come of a step of their own
    assert whole == prompt - 1 + 5 + steps
    assert sum(seen) == whole  # one row after the other: the place keeps what it has


def test_penalty_and_min_p_are_those_of_transformers():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=23).astype(np.float32)
    penalized = penalize(logits, [4, 9, 17], 1.7)
    theirs = RepetitionPenaltyLogitsProcessor(1.7)(
        torch.tensor([[4, 9, 17, 9]]), torch.from_numpy(logits)[None]
    )
    np.testing.assert_allclose(penalized, theirs[0].numpy(), rtol=1e-6)
    expected = MinPLogitsWarper(0.1)(None, torch.from_numpy(logits)[None])[0]
    noise = Noise(0)
    drawn = {
        choose(logits[None], SpanSampling(1.0, min_p=0.1), [partial(noise.exponential, at)])[0]
        for at in range(2_000)
    }
    assert drawn <= set(torch.isfinite(expected).nonzero().flatten().tolist())
    assert len(drawn) > 3


def test_cancelled_rows_stop_before_the_next_step(sampler):
    asked = iter([False, False, True])
    events = list(
        sampler.run(
            [Request((TEXT, DRAW), seed) for seed in range(2)],
            Sampling(),
            cancelled=lambda: next(asked),
        )
    )
    ended = [event for event in events if type(event).__name__ == "Cancelled"]
    # The second waited a step for the prompt that they have in common.
    assert [(event.row, event.sampled) for event in ended] == [(0, 2), (1, 1)]
    assert events[-2:] == ended


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Guidance(formula="both"), "formula is 'both'"),
        (lambda: Guidance(-1.0), "scale is -1.0"),
        (lambda: SpanSampling(min_p=2.0), "min_p is 2.0"),
        (lambda: SpanSampling(repetition_penalty=0), "repetition_penalty is 0"),
        (lambda: Sampling(image=SpanSampling(repetition_penalty=1.2)), "for text and sound alone"),
        (lambda: Sampling(stop="no"), "stop is 'no'"),
        (
            lambda: Sampling.from_json({"image": {"guidance": {"size": 2}}}),
            "unknown entry image.guidance.size",
        ),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_parameters_come_back_from_json():
    settings = Sampling(
        image=SpanSampling(0.9, guidance=Guidance(3.0, "three-way", 1.5)),
        spans={"music": SpanSampling(1.1)},
        stop=("\n\n",),
    )
    assert Sampling.from_json(settings.to_json()) == settings
