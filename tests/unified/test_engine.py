"""Sampling under the grammar: always valid, exactly what was asked, alone or in a batch."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request, Sampling, Step
from unified.engine.sampler import SpanSampling, choose
from unified.formats.coded import CodedAudio, CodedImage, CodedText, SpanEnd, TextIds
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.models.hf_checkpoint import decoder_of
from unified.vocabulary.vocabulary import Vocabulary

WARM = SpanSampling(temperature=1.0)
FREE = Sampling(WARM, WARM, WARM, max_ids=70)
GREEDY = Sampling(*[SpanSampling()] * 3, max_ids=70)


@pytest.fixture(scope="module")
def grammar(small_pocket):
    return small_pocket


@pytest.fixture(scope="module")
def sampler(grammar, random_sampler):
    return random_sampler(grammar)


def ends(sampler, requests, sampling):
    """row -> Finished."""
    return {e.row: e for e in sampler.run(requests, sampling) if isinstance(e, Finished)}


def picture(*shape, role=None):
    return CodedImage(np.arange(np.prod(shape)).reshape(1, *shape) % 7, role)


def mixed_requests():
    """Rows in every mode, prompts of different lengths."""
    sound = CodedAudio(np.array([[1, 2, 3], [4, 5, 0]]), "prompt")
    text = CodedText((1, 2, 3), "prompt")
    every = [
        (text, CodedSlot("image", (2, 3), role="response")),
        (sound, text, CodedSlot("text", role="response")),
        (picture(3, 1), CodedSlot("any", num_images=2)),
        (CodedSlot("any"),),
        (text, CodedSlot("audio", role="response"), CodedText((9,), "response")),
        (
            picture(2, 2, role="prompt"),
            CodedText((4,), "prompt"),
            CodedSlot("text", role="response"),
            CodedText((5,), "prompt"),
            CodedSlot("text", role="response"),
            CodedSlot("image", role="response"),
        ),
    ]
    return [Request(segments, seed) for seed in range(3) for segments in every]


@pytest.mark.parametrize("sampling", [GREEDY, FREE], ids=["greedy", "sampled"])
@pytest.mark.parametrize("max_rows", [64, 5])
def test_a_row_gives_the_same_ids_whatever_shares_its_batch(sampler, sampling, max_rows):
    requests = mixed_requests()
    together = ends(sampler, requests, replace(sampling, max_rows=max_rows))
    backwards = ends(sampler, requests[::-1], replace(sampling, max_rows=max_rows))
    assert sorted(together) == list(range(len(requests)))
    for row, request in enumerate(requests):
        alone = ends(sampler, [request], sampling)[0].ids.tolist()
        assert together[row].ids.tolist() == alone
        assert backwards[len(requests) - 1 - row].ids.tolist() == alone


@pytest.mark.parametrize("sampling", [GREEDY, FREE], ids=["greedy", "sampled"])
def test_the_compiled_and_the_general_decoder_choose_the_same_ids(grammar, sampling):
    """The weights of one model, through transformers' own forward and through ours."""
    torch.manual_seed(5)
    hf = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=grammar.vocabulary.size, hidden_size=16, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, head_dim=6, intermediate_size=20,
            max_position_embeddings=300, tie_word_embeddings=True,
        )
    )  # fmt: skip
    for parameter in hf.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    compiled, general = Engine(decoder_of(hf), grammar), Engine(TransformersDecoder(hf), grammar)
    assert isinstance(compiled.decoder, LlamaCpuDecoder)
    results = [ends(engine, mixed_requests(), sampling) for engine in (compiled, general)]
    for row, done in results[0].items():
        assert done.ids.tolist() == results[1][row].ids.tolist()


def test_cached_sampling_equals_recomputing_everything(sampler, grammar):
    """Greedy ids are the argmax, among the allowed, of a fresh pass over all ids before them."""
    request = Request((CodedText((3, 1)), CodedSlot("any", num_images=1)), 0)
    ids = ends(sampler, [request], replace(GREEDY, max_repeats=0))[0].ids.tolist()
    state = grammar.start()
    for id in ids[:3]:
        state.advance(id)
    state.restrict(Limits(max_ids=70 - 3, num_images=1))
    decoder = sampler.decoder
    whole = decoder.forward(decoder.new_cache(1, 70), [0], [ids])
    for at in range(3, len(ids)):
        ranges = state.allowed()
        logits = decoder.logits(whole[at - 1 : at], ranges)[0]
        choices = np.concatenate([np.arange(*r) for r in ranges])
        assert ids[at] == choices[logits.argmax()]
        state.advance(ids[at])
    assert state.finished


def test_whoever_would_end_with_pictures_still_owed_begins_them(sampler, grammar):
    """A decoder that likes the end best everywhere: it writes no text to put it off."""
    config = replace(sampler.decoder.config, tie_word_embeddings=False)
    rng = np.random.default_rng(5)
    weights = {
        name: rng.normal(1.0 if "norm" in name else 0.0, 0.4, shape).astype(np.float32)
        for name, shape in config.shapes().items()
    }
    # The first number of every feature is above zero, and alone decides.
    weights["model.embed_tokens.weight"][:, 0] = 3
    weights["model.norm.weight"][1:] = 0
    for layer in range(config.num_layers):
        weights[f"model.layers.{layer}.self_attn.o_proj.weight"][0] = 0
        weights[f"model.layers.{layer}.mlp.down_proj.weight"][0] = 0
    weights["lm_head.weight"][grammar.end[0], 0] = 9
    eager = Engine(LlamaCpuDecoder(config, weights), grammar)
    for wanted in ({"num_images": 2, "grid": (1, 2)}, {"num_images": 1, "num_audios": 2}, {}):
        request = Request((CodedText((3, 1)), CodedSlot("any", **wanted)), 0)
        segments = grammar.parse(ends(eager, [request], GREEDY)[0].ids)
        kinds = [segment.kind for segment in segments]
        expected = ["image"] * wanted.get("num_images", 0) + ["audio"] * wanted.get("num_audios", 0)
        assert kinds == ["text", *expected]


@pytest.mark.slow
def test_three_thousand_random_requests_all_give_valid_sequences(sampler, grammar):
    rng = np.random.default_rng(11)
    total = 0
    for budget in rng.choice(np.arange(26, 46), size=20, replace=False):
        requests = []
        for _ in range(150):
            before = [CodedText((int(rng.integers(19)),), "prompt")] if rng.random() < 0.5 else []
            role = "response" if before else None
            slots = [
                [CodedSlot("any", role=role)],
                [CodedSlot("any", num_images=int(rng.integers(3)), grid=(1, 2), role=role)],
                [CodedSlot("any", num_audios=1, num_images=1, role=role)],
                [CodedSlot("text", role=role)],
                [CodedSlot("image", role=role), CodedSlot("text", role=role)],
                [CodedSlot("text", role=role), CodedSlot("audio", role=role)],
            ][int(rng.integers(6))]
            requests.append(Request((*before, *slots), int(rng.integers(1 << 30))))
        sampling = replace(FREE, max_ids=int(budget), max_rows=250)
        for row, end in ends(sampler, requests, sampling).items():
            assert len(end.ids) <= budget
            segments = grammar.parse(end.ids)  # raises where the sequence is not valid
            wanted = requests[row].segments[-1]
            for kind, number in (("image", wanted.num_images), ("audio", wanted.num_audios)):
                if number is not None:
                    assert sum(s.kind == kind for s in segments) == number
            total += 1
    assert total == 3_000


def test_streamed_steps_tell_what_the_finished_sequence_holds(sampler, grammar):
    requests = mixed_requests()
    spans, texts, ids = {}, {}, {}
    for step in sampler.run(requests, FREE):
        if isinstance(step, Finished):
            ids[step.row] = step.ids
        elif step.sampled and isinstance(step.event, SpanEnd):
            spans.setdefault(step.row, []).append(step.event.segment)
        elif step.sampled and isinstance(step.event, TextIds):
            texts.setdefault(step.row, []).extend(step.event.ids)
    for row, request in enumerate(requests):
        parsed, wanted = list(grammar.parse(ids[row])), list(request.segments)
        while wanted and not isinstance(wanted[0], CodedSlot):
            assert parsed.pop(0) == wanted.pop(0)
        rest = [s for s in wanted if not isinstance(s, CodedSlot)]
        assert [s for s in parsed if s not in rest] == spans.get(row, [])
        sampled = [id for s in spans.get(row, []) if s.kind == "text" for id in s.ids]
        assert texts.get(row, []) == sampled


def test_a_slot_takes_the_grid_and_the_role_it_was_given(sampler, grammar):
    slot = CodedSlot("image", grid=(3, 2), role="response")
    end = ends(sampler, [Request((CodedText((1,), "prompt"), slot), 0)], FREE)[0]
    image = grammar.parse(end.ids)[1]
    assert image.codes.shape == (1, 3, 2)
    assert image.role == "response"
    # <bos> <prompt> text <response> | <image> h w, six codes, </image> <eos>
    assert end.usage == {
        "prompt_ids": 4,
        "sampled_ids": 6,
        "forced_ids": 5,
        "text_ids": 0,
        "image_ids": 6,
        "audio_ids": 0,
        "marker_ids": 5,
    }
    assert 0 <= end.timings["first_id"] <= end.timings["total"]


def test_audio_spans_keep_to_the_frames_allowed(sampler, grammar):
    requests = [Request((CodedSlot("audio"),), seed) for seed in range(20)]
    for end in ends(sampler, requests, replace(FREE, max_audio_frames=3)).values():
        (audio,) = grammar.parse(end.ids)
        assert audio.codes.shape[1] <= 3


def test_what_must_follow_a_slot_is_paid_from_its_budget(sampler):
    follow = (picture(3, 3), CodedText((1, 2)))  # 13 + 2 ids
    request = Request((CodedSlot("text"), *follow), 0)
    least = 1 + 1 + 13 + 2 + 1
    assert len(ends(sampler, [request], replace(FREE, max_ids=least))[0].ids) == least
    with pytest.raises(ValueError, match="raise max_ids"):
        ends(sampler, [request], replace(FREE, max_ids=least - 1))


def test_requests_that_say_nothing_or_too_much_are_refused():
    with pytest.raises(ValueError, match="no slot"):
        Request((CodedText((1,)),), 0)
    with pytest.raises(ValueError, match="'any' slot, which must be the last"):
        Request((CodedSlot("any"), CodedText((1,))), 0)
    with pytest.raises(ValueError, match="nothing says where"):
        Request((CodedSlot("text"), CodedSlot("any")), 0)


def test_a_decoder_with_too_few_rows_is_refused(sampler):
    other = Vocabulary.build(40, 40, load_format("pocket").markers, 4, ((7,), "i"), ((5,), "a"))
    with pytest.raises(ValueError, match=f"has {sampler.decoder.vocab_size} embedding rows"):
        Engine(sampler.decoder, Grammar.load("pocket", other))


def draws(logits, sampling, number=4000):
    noise = [partial(Noise(seed).exponential, 7) for seed in range(number)]
    chosen = choose(np.tile(np.float32(logits), (number, 1)), sampling, noise)
    return np.bincount(chosen, minlength=len(logits)) / number


def test_choices_have_the_probabilities_of_the_softmax():
    logits = np.log([0.5, 0.1, 0.3, 0.1])
    np.testing.assert_allclose(draws(logits, SpanSampling(1.0)), [0.5, 0.1, 0.3, 0.1], atol=0.03)
    half = np.array([0.25, 0.01, 0.09, 0.01]) / 0.36
    np.testing.assert_allclose(draws(logits, SpanSampling(0.5)), half, atol=0.03)


def test_top_k_and_top_p_cut_the_unlikely():
    logits = np.log([0.5, 0.08, 0.3, 0.12])
    expected = np.array([0.5, 0, 0.3, 0]) / 0.8
    np.testing.assert_allclose(draws(logits, SpanSampling(1.0, top_k=2)), expected, atol=0.03)
    np.testing.assert_allclose(draws(logits, SpanSampling(1.0, top_p=0.79)), expected, atol=0.03)
    np.testing.assert_allclose(draws(logits, SpanSampling(1.0, top_p=0.5)), [1, 0, 0, 0])


def test_a_draw_does_not_depend_on_the_other_rows():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 9)).astype(np.float32)
    sampling = SpanSampling(0.8, top_k=5, top_p=0.9)
    noise = [partial(Noise(seed).exponential, 7) for seed in range(6)]
    together = choose(logits, sampling, noise)
    single = [choose(logits[s : s + 1], sampling, noise[s : s + 1])[0] for s in range(6)]
    assert together == single


def test_logits_that_are_no_numbers_are_an_error():
    with pytest.raises(ValueError, match="not numbers"):
        choose(np.array([[0.0, np.nan]], np.float32), SpanSampling(), [Noise(0).exponential])


def test_sampling_settings_round_trip_and_refuse_unknown_keys():
    settings = Sampling(image=SpanSampling(0.9, 50, 0.95), max_ids=99)
    assert Sampling.from_json(settings.to_json()) == settings
    assert Sampling.from_json({"audio": {"top_k": 4}}).audio == SpanSampling(top_k=4)
    with pytest.raises(ValueError, match="temprature"):
        Sampling.from_json({"image": {"temprature": 1}})
    with pytest.raises(ValueError, match="temperature is -1"):
        SpanSampling(temperature=-1)


def test_steps_name_the_segment_they_belong_to(sampler):
    request = Request((CodedText((1,)), CodedSlot("image", (1, 1)), CodedSlot("text")), 0)
    steps = [s for s in sampler.run([request], FREE) if isinstance(s, Step)]
    ended = [(s.index, s.sampled) for s in steps if isinstance(s.event, SpanEnd)]
    assert ended == [(0, False), (1, True), (2, True)]
