"""The compiled decoder with a text encoder: torch's numbers, and the same bits in any company."""

from __future__ import annotations

import codes_checkpoints as checkpoints
import numpy as np
import pytest
import torch

from unified.engine.backends.cpu.cross_config import CrossCpuConfig
from unified.models.compiled_cross import cross_decoder
from unified.models.cross_models import DiaModel, MusicgenModel
from unified.models.encoder_decoder import EncoderDecoder

CODES = checkpoints.CODES
KINDS = {"musicgen": (checkpoints.make_musicgen, MusicgenModel),
         "dia": (checkpoints.make_dia, DiaModel)}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request, tmp_path_factory):
    make, kind = KINDS[request.param]
    return kind(make(tmp_path_factory.mktemp(request.param), 2))


@pytest.fixture(scope="module")
def sequences(model):
    """Texts of other lengths, one of none, each with positions of codes behind it."""
    rng = np.random.default_rng(0)
    rows = []
    for text, length in (([5, 9, 2, 7], 3), ([], 6), ([3] * 40, 40), ([8, 1], 1)):
        codes = model.offsets.numpy() + rng.integers(0, CODES, (length, model.num_codebooks))
        rows.append([*text, *map(tuple, codes.tolist())])
    return rows


def states_of(decoder, sequences):
    cache = decoder.new_cache(len(sequences), 120)
    states = decoder.forward(cache, list(range(len(sequences))), sequences)
    assert cache.lengths == list(map(len, sequences))
    return np.split(np.asarray(states), np.cumsum(cache.lengths)[:-1])


def levels(model):
    return [(first, first + model.rows) for first in model.offsets.tolist()]


def test_states_and_logits_are_those_of_torch(model, sequences):
    ours, theirs = cross_decoder(model), EncoderDecoder(model)
    for own, their in zip(states_of(ours, sequences), states_of(theirs, sequences), strict=True):
        np.testing.assert_allclose(own, their, atol=2e-5)
        for ranges in [levels(model), [(levels(model)[1][0] + 3, levels(model)[1][0] + 9)]]:
            expected = theirs.logits(torch.from_numpy(their), tuple(ranges))
            np.testing.assert_allclose(ours.logits(own, tuple(ranges)), expected, atol=1e-4)
    with pytest.raises(ValueError, match="no head for text"):
        ours.logits(own, ((3, 5),))


def test_a_row_has_the_same_bits_alone_in_a_batch_and_bit_by_bit(model, sequences):
    decoder = cross_decoder(model)
    together = states_of(decoder, sequences)
    for sequence, expected in zip(sequences, together):
        (alone,) = states_of(decoder, [sequence])
        np.testing.assert_array_equal(alone, expected)
        cache = decoder.new_cache(1, 99)
        parts = [decoder.forward(cache, [0], [[position]]) for position in sequence]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_all_levels_at_once_are_each_alone(model, sequences):
    """Whichever rows are asked for, in any order."""
    decoder = cross_decoder(model)
    states = np.concatenate([own[-1:] for own in states_of(decoder, sequences)])
    codes = decoder.begin_positions(states)
    for rows in ([2, 0], [0, 1, 2, 3], [3, 1, 2, 0]):
        for start, stop in levels(model):
            for ranges in (((start, stop),), ((start, start + 2), (start + 5, stop - 1))):
                own = codes.logits(rows, ranges)
                np.testing.assert_array_equal(own, decoder.logits(states[rows], ranges))


def test_copied_and_cut_slots_go_on_as_others_do(model, sequences):
    decoder = cross_decoder(model)
    sequence = sequences[0]
    (expected,) = states_of(decoder, [sequence])
    cache = decoder.new_cache(2, 60)
    decoder.forward(cache, [0], [sequence[:-1]])
    cache.copy_prefix(0, 1)  # in the midst of codes: with what the text was read to
    np.testing.assert_array_equal(decoder.forward(cache, [1], [sequence[-1:]])[-1], expected[-1])
    cache.truncate(0, len(sequence) - 2)
    np.testing.assert_array_equal(decoder.forward(cache, [0], [sequence[-2:]]), expected[-2:])
    cache.copy_prefix(0, 1, 2)  # in the midst of a text: which is read anew as a whole
    np.testing.assert_array_equal(decoder.forward(cache, [1], [sequence[2:]]), expected[2:])
    cache.free(1)
    assert cache.allocate(60) == 1
    np.testing.assert_array_equal(decoder.forward(cache, [1], [sequence]), expected)


def test_long_prompts_and_caches_are_cut_into_parts(model, sequences):
    """More positions than one pass takes, and than one block of attention."""
    decoder = cross_decoder(model)
    rng = np.random.default_rng(1)
    codes = model.offsets.numpy() + rng.integers(0, CODES, (560, model.num_codebooks))
    sequence = [4, 2, *map(tuple, codes.tolist())]
    cache = decoder.new_cache(2, 580)
    short = sequences[0]
    at_once = decoder.forward(cache, [0, 1], [sequence, short])
    np.testing.assert_array_equal(at_once[len(sequence) :], states_of(decoder, [short])[0])
    theirs = EncoderDecoder(model)
    expected = theirs.forward(theirs.new_cache(1, 580), [0], [sequence]).numpy()
    np.testing.assert_allclose(at_once[: len(sequence)], expected, atol=1e-4)


@pytest.mark.slow  # kernels of other types are compiled for it
@pytest.mark.parametrize(("dtype", "cache", "most"), [("int8", "float32", 0.3),
                                                      ("auto", "bfloat16", 0.1)])  # fmt: skip
def test_smaller_weights_and_caches_stay_near(model, sequences, dtype, cache, most, monkeypatch):
    exact = states_of(cross_decoder(model), sequences)
    monkeypatch.setenv("UNIFIED_CPU_CACHE", cache)
    decoder = cross_decoder(model, dtype)
    if dtype == "int8":
        assert decoder.arithmetic == "int8"
    worst = max(np.abs(own - other).max() for own, other in
                zip(states_of(decoder, sequences), exact))  # fmt: skip
    assert 0 < worst < most * max(np.abs(own).max() for own in exact)


def test_weights_that_do_not_fit_are_refused(model):
    weights = {name: np.zeros(shape, np.float32) for name, shape in _config(model).shapes().items()}
    for name, change in {"layers.1.text_q.weight": None, "norm.weight": (3,)}.items():
        others = {key: w for key, w in weights.items() if key != name}
        if change is not None:
            others[name] = np.zeros(change, np.float32)
        with pytest.raises(ValueError, match=name):
            _config(model).check(others)
    with pytest.raises(ValueError, match="'more' is unexpected"):
        _config(model).check({**weights, "more": np.zeros(2, np.float32)})


def _config(model) -> CrossCpuConfig:
    return cross_decoder(model).config


def test_an_adapter_is_not_passed_over(model):
    layer = model.layers[0]
    product = layer.own.q
    object.__setattr__(layer.own, "q", torch.nn.Sequential(product))
    try:
        with pytest.raises(ValueError, match="or with an adapter"):
            cross_decoder(model)
    finally:
        object.__setattr__(layer.own, "q", product)
