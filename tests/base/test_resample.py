"""Sample rates: tones keep their pitch and level, what cannot be held vanishes."""

import numpy as np
import pytest

from unified_base.resample import resample


def tone(hertz, rate, seconds=0.3):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)[None]


@pytest.mark.parametrize(
    ("rate", "target"), [(22050, 16000), (48000, 16000), (8000, 16000), (16000, 11025)]
)
@pytest.mark.parametrize("hertz", [100, 1000, 3000])
def test_a_tone_stays_the_same_tone(rate, target, hertz):
    out = resample(tone(hertz, rate), rate, target)
    expected = tone(hertz, target, seconds=0.4)[:, : out.shape[1]]
    middle = slice(400, -400)  # the ends meet the silence outside
    assert out.dtype == np.float32
    assert np.abs(out[:, middle] - expected[:, middle]).max() < 1e-3


def test_what_the_new_rate_cannot_hold_is_removed():
    out = resample(tone(9000, 22050), 22050, 16000)
    assert np.abs(out[:, 400:-400]).max() < 1e-4


@pytest.mark.parametrize(("samples", "length"), [(1, 1), (441, 320), (442, 321), (70_000, 50_794)])
def test_length_is_rounded_up(samples, length):
    assert resample(np.ones((2, samples)), 22050, 16000).shape == (2, length)


def test_channels_do_not_mix_and_blocks_leave_no_seam():
    wave = np.random.default_rng(0).uniform(-1, 1, (2, 60_000))
    both = resample(wave, 22050, 16000)
    assert np.array_equal(both[1:], resample(wave[1:], 22050, 16000))
    part = resample(wave[:, 44_100 - 441 * 2 : 60_000], 22050, 16000)
    assert np.abs(both[:, 32_000 : 32_000 + 5000] - part[:, 640 : 640 + 5000]).max() < 1e-6


def test_equal_rates_change_nothing_and_nonsense_is_refused():
    wave = np.ones((1, 3), np.float32)
    assert resample(wave, 16000, 16000) is wave
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        resample(wave[0], 8000, 16000)
    with pytest.raises(ValueError, match="at least 1"):
        resample(wave, 0, 16000)
