"""Speech: a text as a voice says it, running on, at 16 kHz and at one level.

What is to be spoken by a model is clean and at `LEVEL`; what is to be heard goes through `hearing`.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path
from shutil import which
from typing import NamedTuple

import numpy as np

from unified_base.level import level_gain
from unified_base.sounds import decode_audio
from unified_data.world.espeak import ESPEAK_RATE, espeak_speech
from unified_data.world.phonemes import checked_text, is_ipa, phonemes_of, world_phonemes
from unified_data.world.voices import Speaker

__all__ = ["FRAME", "LEVEL", "SAMPLE_RATE", "Speech", "has_recorded_voices", "say", "speak_text",
           "to_int16_grid"]  # fmt: skip

SAMPLE_RATE = 16_000
FRAME = 640
"""What is spoken is a multiple of this many samples: 40 ms."""
LEVEL = -26.0
"""dB below full scale of what is spoken, by `unified_base.level`."""

_SILENCE = 0.01  # of the peak
_MARGIN = SAMPLE_RATE // 20  # before and after what is spoken
_PLAIN_PACE = 175  # words a minute that flite's voices are taken to speak at
_ROLL_OFF = 0.06  # of the band: a smooth edge rings less


class Speech(NamedTuple):
    """waveform: float64 (S,) or float32 (1, S) at `SAMPLE_RATE`; phonemes: see `phonemes`."""

    waveform: np.ndarray
    phonemes: str


def say(text: str, speaker: Speaker) -> Speech:
    """A text as a voice says it: float64 (S,), from its first sound to its last, and its phonemes.

    As loud as the voice is. The same text and voice give the same samples whatever was said before.
    The phonemes of a recorded voice are those of espeak-ng's American.

    Raises ValueError for text that gives no sound, as `phonemes_of` does, for a voice that
    espeak-ng does not have, and where a recorded voice is wanted and flite is missing or fails.
    """
    dialect = speaker.dialect
    if speaker.recorded is not None:
        phonemes = phonemes_of(text, dialect)
        waveform = _flite(text, speaker.recorded, speaker.manner.pace / _PLAIN_PACE)
    else:
        speech = espeak_speech(checked_text(text, dialect), speaker.manner, is_ipa(dialect))
        phonemes = world_phonemes(speech.phonemes, dialect, text)
        waveform = _at_16_khz(speech.samples / 32768)
    loud = np.flatnonzero(np.abs(waveform) > _SILENCE * np.abs(waveform).max(initial=0.0))
    if not len(loud):
        raise ValueError(f"{speaker.name} gave no sound for {text[:40]!r}; expected words in it")
    return Speech(waveform[loud[0] : loud[-1] + 1], phonemes)


def speak_text(text: str, speaker: Speaker) -> Speech:
    """A text as a model of the world is to speak it: float32 (1, S) in [-1, 1], in whole `FRAME`s.

    At `LEVEL`, with 50 ms of silence before and at least as much after it, on the grid of 16-bit
    samples. Raises ValueError as `say` does.
    """
    waveform, phonemes = say(text, speaker)
    waveform = waveform * level_gain(waveform, SAMPLE_RATE, LEVEL)
    waveform /= max(1.0, float(np.abs(waveform).max()))  # peaks of more than 26 dB: in no voice yet
    after = _MARGIN + -(2 * _MARGIN + len(waveform)) % FRAME
    return Speech(to_int16_grid(np.pad(waveform, (_MARGIN, after)))[None], phonemes)


def to_int16_grid(waveform: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] to the nearest 16-bit samples, float32, so that 16-bit FLAC is exact."""
    return (np.rint(waveform * 32767) / np.float32(32768)).astype(np.float32)


def _at_16_khz(waveform: np.ndarray) -> np.ndarray:
    """float (S,) at espeak-ng's rate as float64 at `SAMPLE_RATE`: its spectrum's lower 8 kHz.

    320 samples for 441, in one transform of the whole with silence behind it: 0.5 ms for a sentence
    where `pocket.speech_rate` takes 6. The last 6% below 8 kHz roll off.
    """
    assert ESPEAK_RATE * 320 == SAMPLE_RATE * 441
    blocks = -(-(len(waveform) + ESPEAK_RATE // 10) // 441)
    spectrum = np.fft.rfft(waveform, 441 * blocks)[: 160 * blocks + 1]
    edge = np.linspace(1 / _ROLL_OFF, 0, len(spectrum)).clip(0, 1)
    resampled = np.fft.irfft(spectrum * edge, 320 * blocks) * (320 / 441)
    return resampled[: -(-len(waveform) * 320 // 441)]


@cache
def has_recorded_voices() -> bool:
    """Whether flite is installed."""
    return which("flite") is not None


def _flite(text: str, voice: str, speed: float) -> np.ndarray:
    """What flite says, float64 (S,) at `SAMPLE_RATE`. speed: 1 is the voice's own."""
    if not has_recorded_voices():
        raise ValueError(
            f"the recorded voice {voice!r} needs flite, which is not installed; install it with"
            " `apt-get install flite`"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice, "--setf", f"duration_stretch={1 / speed:.3f}"]
        result = subprocess.run([*command, "-t", text, "-o", str(path)], capture_output=True)
        if result.returncode != 0 or not path.exists():
            reason = result.stderr.decode("utf-8", "replace").strip()
            raise ValueError(f"flite failed on {text[:40]!r} in the voice {voice!r}: {reason}")
        waveform, rate = decode_audio(path.read_bytes(), path.name)
    if rate != SAMPLE_RATE:
        raise ValueError(f"flite's voice {voice!r} has {rate} Hz, expected {SAMPLE_RATE:,}")
    return waveform[0].astype(np.float64)
