"""What becomes of speech on its way to the ear: room, distance, noise, telephone, microphone.

All of it is drawn at random for a clip, from a seed. In this order: the room's echo, silence around
the speech, noise, the band that a line lets through, a microphone driven too far, loudness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unified_base.level import active_level
from unified_data.world.sound import SAMPLE_RATE, to_int16_grid

__all__ = ["Hearing", "draw_hearing", "hear", "hear_nothing"]

NoiseKind = Literal["white", "pink"]
Band = tuple[float, float]

_ALL = (0.0, SAMPLE_RATE / 2)
_BANDS: tuple[Band, ...] = ((300.0, 3400.0), (100.0, 4000.0), (50.0, 5500.0))
"""Hz: of the old telephone, of a mobile one, of a small loudspeaker."""


@dataclass(frozen=True)
class Hearing:
    """How a clip is heard; the default is a clean one at full loudness.

    before, after: seconds of silence. loudness: the peak, dB below full scale. noise, snr: its kind
    and the speech's active level above the noise's, dB. band: Hz that come through. clipping: the
    share of the peak at which samples are cut. echo: seconds in which a room's sound falls by 60
    dB, 0 for no room. seed: of noise and room.
    """

    before: float = 0.0
    after: float = 0.0
    loudness: float = 0.0
    noise: NoiseKind | None = None
    snr: float = 40.0
    band: Band = _ALL
    clipping: float = 1.0
    echo: float = 0.0
    seed: int = 0


def draw_hearing(rng: np.random.Generator) -> Hearing:
    """Silence of 0 to 1 s on either side and a loudness of -30 to 0 dB always; noise of 10 to 40 dB
    in half of the clips, a limited band in one of five, clipping and a room in one of six each."""
    chances = rng.random(4)
    return Hearing(
        before=float(rng.uniform(0, 1)) ** 2,
        after=float(rng.uniform(0, 1)) ** 2,
        loudness=float(rng.uniform(-30, 0)),
        noise=None if chances[0] < 0.5 else ("white", "pink")[int(chances[0] < 0.75)],
        snr=float(rng.uniform(10, 40)),
        band=_BANDS[int(rng.integers(len(_BANDS)))] if chances[1] < 0.2 else _ALL,
        clipping=float(rng.uniform(0.5, 0.9)) if chances[2] < 1 / 6 else 1.0,
        echo=float(rng.uniform(0.1, 0.5)) if chances[3] < 1 / 6 else 0.0,
        seed=int(rng.integers(2**32)),
    )


def hear(speech: np.ndarray, hearing: Hearing) -> np.ndarray:
    """Speech (S,) as it is heard: float32 (1, N) in [-1, 1], on the grid of 16-bit samples.

    N is S and the silence around it, and what a room adds.
    """
    rng = np.random.default_rng(hearing.seed)
    level = float(active_level(speech, SAMPLE_RATE))
    if hearing.echo:
        speech = _in_room(speech, hearing.echo, rng)
    silences = (round(hearing.before * SAMPLE_RATE), round(hearing.after * SAMPLE_RATE))
    waveform = np.pad(speech, silences)
    if hearing.noise is not None:
        noise = _noise(len(waveform), hearing.noise, rng)
        waveform = waveform + noise * (level * 10 ** (-hearing.snr / 20))
    if hearing.band != _ALL:
        waveform = _through(waveform, hearing.band)
    peak = float(np.abs(waveform).max())
    waveform = waveform.clip(-hearing.clipping * peak, hearing.clipping * peak)
    peak = float(np.abs(waveform).max())
    return to_int16_grid(waveform * (10 ** (hearing.loudness / 20) / peak))[None]


def hear_nothing(rng: np.random.Generator) -> np.ndarray:
    """Half a second to 3 s in which nothing is said, float32 (1, N): silence, or noise at -60 to
    -20 dB, perhaps through a line."""
    length = int(rng.integers(SAMPLE_RATE // 2, 3 * SAMPLE_RATE))
    chances = rng.random(2)
    if chances[0] < 0.25:
        return np.zeros((1, length), np.float32)
    waveform = _noise(length, "white" if chances[0] < 0.6 else "pink", rng)
    if chances[1] < 0.3:
        waveform = _through(waveform, _BANDS[int(rng.integers(len(_BANDS)))])
    waveform = waveform * 10 ** (float(rng.uniform(-60, -20)) / 20)
    return to_int16_grid(waveform.clip(-1, 1))[None]


def _noise(length: int, kind: NoiseKind, rng: np.random.Generator) -> np.ndarray:
    """Noise of root mean square 1; pink has the same power in every octave from 20 Hz on."""
    white = rng.standard_normal(length)
    if kind == "white":
        return white
    size = _transform_size(length)
    spectrum = np.fft.rfft(white, size)
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 20)), size)[:length]
    return pink / np.sqrt(np.mean(np.square(pink)))


def _through(waveform: np.ndarray, band: Band) -> np.ndarray:
    """What a line lets through: as a Butterworth filter of the fourth order falls, in phase."""
    size = _transform_size(len(waveform) + SAMPLE_RATE // 10)
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 1e-3)
    low, high = band
    gains = 1 / np.sqrt((1 + (low / frequencies) ** 8) * (1 + (frequencies / high) ** 8))
    return np.fft.irfft(np.fft.rfft(waveform, size) * gains, size)[: len(waveform)]


def _in_room(speech: np.ndarray, echo: float, rng: np.random.Generator) -> np.ndarray:
    """Speech and its echo: noise that dies away exponentially, as strong as the speech itself.

    60 dB in `echo` seconds (Moorer, "About this reverberation business", 1979). What is heard goes
    on by that long.
    """
    length = int(echo * SAMPLE_RATE)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response *= rng.uniform(0.3, 1.0) / np.sqrt(np.sum(np.square(response)))
    response[0] = 1.0
    size = _transform_size(len(speech) + length)
    product = np.fft.rfft(speech, size) * np.fft.rfft(response, size)
    return np.fft.irfft(product, size)[: len(speech) + length]


def _transform_size(length: int) -> int:
    """A length at least as large that transforms fast: 2^a, 3 2^a or 5 2^a."""
    power = 1 << (length - 1).bit_length()
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= length)
