"""The level of speech: pauses do not count, and volume is a factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_base.level import MAX_GAIN, active_level, level_gain

RATE = 16_000


def speech(seconds: float = 1.3, seed: int = 0) -> np.ndarray:
    """Syllables of noise with short gaps, float32 (S,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    return (rng.standard_normal(len(time)) * (np.sin(2 * np.pi * 4 * time) > -0.3) * 0.1).astype(
        "f4"
    )


def test_a_sine_has_its_root_mean_square():
    sine = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    assert active_level(sine, RATE) == pytest.approx(np.sqrt(0.5))
    assert level_gain(sine, RATE, -3.0103) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("pause", [0.2, 1.0, 5.0])
def test_pauses_do_not_change_the_level(pause):
    waveform = speech()
    silent = np.zeros(int(pause * RATE), "f4")
    longer = np.concatenate([silent, waveform, silent])
    assert active_level(longer, RATE) == pytest.approx(active_level(waveform, RATE), rel=0.03)
    # Faint noise in the pauses is no speech either; the plain root mean square falls.
    noise = np.random.default_rng(1).standard_normal(len(longer)) * 0.001
    assert active_level(longer + noise, RATE) == pytest.approx(
        active_level(waveform, RATE), rel=0.03
    )


@given(st.integers(0, 5), st.integers(-12, 0), st.integers(1, 700))
def test_half_the_volume_is_exactly_half_the_level(seed, halvings, length):
    waveform = speech(seed=seed)[:length]
    level = active_level(waveform, RATE)
    assert active_level(waveform * np.float32(2.0**halvings), RATE) == level * 2.0**halvings


def test_waveforms_side_by_side_are_each_as_alone():
    waveforms = np.stack([speech(seed=1), speech(seed=2) * 0.01, np.zeros_like(speech())])
    levels = active_level(waveforms, RATE)
    assert levels.tolist() == [float(active_level(waveform, RATE)) for waveform in waveforms]
    gains = level_gain(waveforms, RATE, -26)
    brought = active_level(waveforms[:2] * gains[:2, None], RATE)
    np.testing.assert_allclose(20 * np.log10(brought), -26)
    assert gains[2] == 1, "silence stays"


def test_what_is_too_faint_to_hear_stays():
    faint = speech() * 1e-6
    assert level_gain(faint, RATE, -26) == 1
    assert level_gain(faint * 1e5, RATE, -26) <= MAX_GAIN
    with pytest.raises(ValueError, match="expected samples"):
        active_level(np.zeros((2, 0)), RATE)
