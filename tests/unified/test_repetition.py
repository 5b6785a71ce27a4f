"""Repetition-aware draws: which choices are made anew, from what, and with which noise."""

from __future__ import annotations

from functools import partial

import numpy as np

from unified.engine.noise import Noise
from unified.engine.race import draw
from unified.engine.repetition import Redraw, redraw
from unified.engine.sampler import ChoiceGroup, SpanSampling, choose, choose_groups


def test_second_draws_have_noise_of_their_own():
    noise = Noise(3)
    first, second = noise.exponential(7, 50), noise.again(7, 50)
    assert not np.isin(second, first).any()
    np.testing.assert_array_equal(noise.again(7, 50), second)
    np.testing.assert_array_equal(Noise(3).again(7, 50), second)
    np.testing.assert_array_equal(noise.exponential(7, 50), first)
    assert not np.isin(noise.again(8, 50), second).any()
    assert abs(noise.again(0, 100_000).mean() - 1) < 0.02


def test_only_columns_that_repeat_are_drawn_anew_and_by_plain_logits():
    """Cuts and temperature leave one column; what repeats comes of all, as likely as they are."""
    logits = np.log(np.tile([[0.5, 0.3, 0.2]], (4000, 1))).astype(np.float32)
    noises = [Noise(seed) for seed in range(4000)]
    again = Redraw(
        logits,
        [partial(noise.again, 9) for noise in noises],
        [lambda column, odd=seed % 2: bool(odd) and column == 0 for seed in range(4000)],
    )
    sampling = SpanSampling(0.1, top_k=1, repetition_window=7)
    noise = [partial(noise.exponential, 9) for noise in noises]
    ((columns, _),) = choose_groups([ChoiceGroup(logits, sampling, noise, redraw=again)])
    assert set(columns[::2]) == {0}
    counts = np.bincount(columns[1::2], minlength=3) / 2000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.2], atol=0.04)
    # Each row alone gives the same.
    for row in (1, 2, 3):
        assert redraw([0], again.of_row(row)) == [columns[row]]
    assert columns[1] == draw(np.exp(logits[1:2]), [again.noise[1]])[0]


def test_the_likeliest_is_not_drawn_anew():
    logits = np.array([[2.0, 1.0, 0.0]], np.float32)
    again = Redraw(logits, [partial(Noise(0).again, 0)], [lambda column: True])
    for sampling in (SpanSampling(), SpanSampling(repetition_window=3)):
        ((columns, _),) = choose_groups([ChoiceGroup(logits, sampling, [], redraw=again)])
        assert columns == choose(logits, SpanSampling(), []) == [0]
