"""All levels of a position in one compiled call: the ids that are chosen level by level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unified.engine.backends.cpu.choice_kernels import choose_column
from unified.engine.backends.cpu.config import LlamaCpuConfig, default_inv_freq
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.cpu.stored import to_quantize
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.level_choices import LevelChoices, level_settings, noise_ends
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.race import BLOCK, clip_noise, noise_numbers
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, LevelSampling, SpanSampling, choose
from unified.formats.coded import CodedAudio, CodedText

CUTS = {
    "greedy": SpanSampling(),
    "temperature": SpanSampling(0.9),
    "cold": SpanSampling(1e-3),
    "top-k": SpanSampling(1.0, top_k=5),
    "top-p": SpanSampling(1.2, top_p=0.8),
    "little top-p": SpanSampling(1.0, top_p=1e-9),
    "min-p": SpanSampling(1.0, min_p=0.05),
    "all": SpanSampling(0.7, top_k=40, top_p=0.95, min_p=0.002),
    "by level": SpanSampling(
        1.0, levels=(LevelSampling(top_k=3), LevelSampling(temperature=0.0), LevelSampling(0.5))
    ),
}


def noise_of(columns, position):
    noise = np.empty(noise_numbers(columns))
    Noise(7).fill(position, noise)
    clip_noise(noise)
    return noise


def column_of(logits, sampling, noise):
    V = len(logits)
    workspaces = np.empty(V, np.float32), np.empty(V, np.float32)
    return choose_column(logits, np.array(level_settings(sampling)), noise, BLOCK, *workspaces)


@pytest.mark.parametrize("columns", [2, 7, 256, 257, 1001, 5000])
@pytest.mark.parametrize("cut", [name for name in CUTS if name != "by level"])
def test_a_choice_that_is_sure_is_the_samplers(columns, cut):
    rng, sampling, sure = np.random.default_rng(columns), CUTS[cut], 0
    logits = (rng.standard_normal((200, columns)) * 2.5).astype(np.float32)
    logits[::3] = np.round(logits[::3])  # equals, at the edges of cuts too
    logits[::5, rng.random(columns) < 0.3] = -np.inf
    logits[:, 0] = 0
    for position, row in enumerate(logits):
        (expected,) = choose(row[None], sampling, [lambda n, at=position: noise_of(columns, at)])
        column, doubtless = column_of(row, sampling, noise_of(columns, position))
        assert column == expected or not doubtless
        sure += doubtless
    # Where sums of equal weights meet an edge exactly, nothing is sure.
    assert sure >= (120 if sampling.top_p < 1 else 198)


def test_what_turns_on_the_last_bits_is_not_sure():
    logits, even = np.zeros(4, np.float32), np.ones(4)
    assert not column_of(logits, SpanSampling(1.0), even)[1]
    logits[2] = 1e-6
    assert not column_of(logits, SpanSampling(1.0), even)[1]
    logits[2] = 1e-3
    assert column_of(logits, SpanSampling(1.0), even) == (2, True)
    assert column_of(logits, SpanSampling(), even) == (2, True)
    # Half of the weight: whether the second belongs to it is a matter of rounding.
    assert not column_of(np.zeros(4, np.float32), SpanSampling(1.0, top_p=0.5), even)[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_damaged_logits_are_the_samplers_to_refuse(bad, temperature):
    logits = np.zeros(9, np.float32)
    logits[4] = bad
    assert not column_of(logits, SpanSampling(temperature), np.ones(9))[1]
    nothing = np.full(9, -np.inf, np.float32)
    assert not column_of(nothing, SpanSampling(temperature), np.ones(9))[1]


@pytest.mark.parametrize("change", [
    {"repetition_penalty": 1.1}, {"repetition_window": 5}, {"top_p": 0.99999},
    {"guidance": Guidance(2.0)},
])  # fmt: skip
def test_settings_of_other_kinds_are_left_to_the_sampler(change):
    assert level_settings(SpanSampling(1.0)) is not None
    assert level_settings(SpanSampling(1.0, **change)) is None


PROMPT = CodedText((1, 2, 3), "prompt")
SOUND = CodedAudio(np.array([[1, 2, 4], [4, 5, 0], [0, 3, 1]]), "prompt")
AUDIO, PICTURE = CodedSlot("audio", role="response"), CodedSlot("image", (2, 3), role="response")


class Counted:
    """A decoder's `write_positions`, with what it was asked for and what it wrote."""

    def __init__(self, decoder, monkeypatch, keep=None):
        """keep: how many of a position's ids are said to be sure, at most."""
        self.rows, self.ids, self.keep = [], 0, keep
        self._write = decoder.write_positions
        monkeypatch.setattr(decoder, "write_positions", self)

    def __call__(self, hidden_states, choices):
        written = self._write(hidden_states, choices)
        if self.keep is not None:
            written = [own[: self.keep()] for own in written]
        self.rows.append(len(written))
        self.ids += sum(map(len, written))
        return written


def ids_of(sampler, requests, sampling):
    """The ids that each request ends with."""
    events = Engine(sampler.decoder, sampler.grammar).run(requests, sampling)
    ids = {event.row: event.ids.tolist() for event in events if isinstance(event, Finished)}
    return [ids[row] for row in range(len(requests))]


def level_by_level(sampler, monkeypatch, requests, sampling):
    with monkeypatch.context() as patched:
        patched.setattr(sampler.decoder, "writes_positions", False)
        return ids_of(sampler, requests, sampling)


def some_requests(grammar, number=9):
    first = [grammar.vocabulary.id_range(f"audio.{k}")[0] for k in range(3)]
    begun = replace(AUDIO, begins=tuple((start + 1, start + 2) for start in first))
    laid_out = [(PROMPT, AUDIO), (SOUND, PROMPT, PICTURE), (PROMPT, begun)]
    return [Request(laid_out[at % 3], at) for at in range(number)]


@pytest.mark.parametrize("output", ["depth", "per level"])
@pytest.mark.parametrize("cut", CUTS)
def test_ids_are_those_of_the_levels_one_by_one(
    small_together, together_sampler, output, cut, monkeypatch
):
    sampler, own = together_sampler(small_together, output), CUTS[cut]
    sampling = Sampling(image=own, audio=own, max_ids=90, max_audio_frames=7)
    requests = some_requests(small_together)
    expected = level_by_level(sampler, monkeypatch, requests, sampling)
    counted = Counted(sampler.decoder, monkeypatch)
    assert ids_of(sampler, requests, sampling) == expected
    assert max(counted.rows) > 1
    # All but the begun frames, the ends of full sounds, and a few that are not sure.
    sampled = sum(len(ids) for ids in expected) - sum(map(len, some_prompts(sampler, requests)))
    assert counted.ids > 0.6 * sampled
    for at in (0, 1, 5):
        assert ids_of(sampler, requests[at : at + 1], sampling) == [expected[at]]


def some_prompts(sampler, requests):
    return [sampler.grammar.serialize(request.segments[:-1], end=False).ids for request in requests]


def test_ids_that_are_not_sure_are_chosen_again(small_together, together_sampler, monkeypatch):
    sampler, own = together_sampler(small_together), SpanSampling(1.0)
    sampling = Sampling(image=own, audio=own, max_ids=90, max_audio_frames=7)
    requests = some_requests(small_together)
    expected = level_by_level(sampler, monkeypatch, requests, sampling)
    rng = np.random.default_rng(3)
    counted = Counted(sampler.decoder, monkeypatch, keep=lambda: rng.integers(0, 4))
    assert ids_of(sampler, requests, sampling) == expected
    assert counted.ids


@pytest.mark.parametrize("change", [
    {"repetition_penalty": 1.3}, {"repetition_window": 3}, {"guidance": Guidance(2.0)},
    {"levels": (LevelSampling(), LevelSampling(repetition_window=4))},
])  # fmt: skip
def test_requests_of_other_settings_share_a_pass(
    small_together, together_sampler, change, monkeypatch
):
    """What the call does not know is chosen level by level, beside what it does."""
    sampler, plain = together_sampler(small_together), SpanSampling(1.0)
    if "repetition_penalty" in change:
        image = plain  # which has none
    else:
        image = replace(plain, **change)
    sampling = Sampling(image=plain, audio=plain, max_ids=90, max_audio_frames=7)
    other = replace(sampling, image=image, audio=replace(plain, **change))
    requests = [
        replace(request, sampling=other if at % 2 else sampling)
        for at, request in enumerate(some_requests(small_together))
    ]
    expected = level_by_level(sampler, monkeypatch, requests, sampling)
    counted = Counted(sampler.decoder, monkeypatch)
    assert ids_of(sampler, requests, sampling) == expected
    assert 0 < max(counted.rows) <= 5


SIZES = {
    "input_size": 24, "hidden_size": 20, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
    "head_dim": 10, "intermediate_size": 36, "num_ids": 4, "ranges": ((5, 9), (20, 310)),
}  # fmt: skip


def stored(weights, kind):
    if kind == "int8":
        return to_quantize(weights)
    if kind == "float16":
        return {name: w.astype(np.float16).view(np.int16) for name, w in weights.items()}
    if kind == "bfloat16":
        return {name: (w.view(np.uint32) >> 16).astype(np.uint16) for name, w in weights.items()}
    return weights


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("known", [0, 1, 2])
def test_ids_are_those_of_logits_asked_for_level_by_level(kind, known):
    """In the backend itself, by what its other methods say: rows of any company, all types."""
    config = LlamaCpuConfig(
        hidden_size=24, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=12,
        intermediate_size=20, vocab_size=320, max_position_embeddings=8, norm_eps=1e-6,
        inv_freq=default_inv_freq(1e4, 12), qk_norm=False, tie_word_embeddings=False,
    )  # fmt: skip
    depth, rng = DepthConfig(**SIZES), np.random.default_rng(1)
    weights = [
        stored(
            {
                name: rng.normal(float("norm" in name), 0.4, shape).astype(np.float32)
                for name, shape in sizes.shapes().items()
            },
            kind,
        )
        for sizes in (config, depth)
    ]
    decoder = LlamaCpuDecoder(config, weights[0], depth=(depth, weights[1]))
    hidden, sampling = rng.normal(size=(18, 24)).astype(np.float32), SpanSampling(1.5, top_k=100)
    first, other = ((2, 9), (30, 200)), ((20, 310),)
    ranges = tuple((first, other, other, ((5, 9), (40, 90)))[known:])
    ids = rng.integers(20, 310, (18, known))
    ends = noise_ends(ranges)
    noise = rng.standard_exponential((18, ends[-1]))
    settings = np.array([[level_settings(sampling)] * len(ranges)] * 18)
    choices = LevelChoices(ids, ranges, settings, noise)
    written = decoder.write_positions(hidden, choices)
    assert sum(map(len, written)) > 17 * len(ranges)
    for row, own in enumerate(written):
        alone = LevelChoices(ids[row : row + 1], ranges, settings[:1], noise[row : row + 1])
        assert decoder.write_positions(hidden[row : row + 1], alone) == [own]
        positions = decoder.begin_positions(hidden[row : row + 1])
        for id in ids[row].tolist():
            positions.append([0], [id])
        for level, id in enumerate(own):
            if known + level:
                logits = positions.logits([0], ranges[level])
            else:
                logits = decoder.logits(hidden[row : row + 1], ranges[level])
            numbers = noise[row, ends[level] : ends[level + 1]]
            (column,) = choose(logits, sampling, [lambda n, own=numbers: own])
            every = [i for start, stop in ranges[level] for i in range(start, stop)]
            assert every[column] == id
            if id < 5:  # begins no position of several
                break
            positions.append([0], [id])
