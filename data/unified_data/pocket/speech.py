"""The pocket world's speech: espeak-ng in three voices, at 16 kHz.

Every clip is made the same way: espeak-ng at 175 words a minute (22,050 Hz), `resample` to
16,000 Hz, silence before and after cut to 20 ms (silence: below 1% of the peak), scaled to a peak
of 0.8, rounded to the int16 grid so that 16-bit FLAC is lossless, and completed with silence to
whole 40 ms (640 samples), which suits tokenizers of 25 or 50 frames a second.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unified_data.resample import resample

SAMPLE_RATE = 16_000
CLIP_MULTIPLE = 640
"""Every clip's length is a multiple of this many samples: 40 ms."""

_WORDS_PER_MINUTE = 175
_PEAK = 0.8
_SILENCE = 0.01
_MARGIN = SAMPLE_RATE // 50


@dataclass(frozen=True)
class Voice:
    """A voice of the world. espeak: espeak-ng's own name for it; pitch: 0 to 99, 50 is plain."""

    name: str
    espeak: str
    pitch: int
    description: str


VOICES: dict[str, Voice] = {
    voice.name: voice
    for voice in (
        Voice("amy", "en-us+f3", 50, "American, a woman's voice"),
        Voice("ben", "en-us", 50, "American, a man's voice"),
        Voice("cole", "en-gb", 40, "British, a man's voice, lower"),
    )
}
DEFAULT_VOICE = "ben"


def find_voice(name: str) -> Voice:
    """The voice called `name`. Raises ValueError naming the voices there are."""
    if name not in VOICES:
        raise ValueError(f"there is no voice {name!r}, expected one of {', '.join(VOICES)}")
    return VOICES[name]


def speak(text: str, voice: str = DEFAULT_VOICE) -> np.ndarray:
    """The text read aloud: float32 (1, S) in [-0.8, 0.8] at 16,000 Hz, S a multiple of 640.

    The same text and voice give the same samples with the same espeak-ng. The last few hundred
    clips are remembered; a copy is returned.

    Raises ValueError for an unknown voice, for text that gives no sound, and when espeak-ng is not
    installed or fails.
    """
    if not text.strip():
        raise ValueError("there is nothing to speak: the text is empty")
    return (_speak(text, find_voice(voice)) / np.float32(32768))[None]


@lru_cache(maxsize=256)
def _speak(text: str, voice: Voice) -> np.ndarray:
    """int16 (S,): half the memory of what `speak` returns."""
    raw = _espeak(text, voice)
    wave = resample(raw[None].astype(np.float32) / 32768, 22_050, SAMPLE_RATE)[0]
    peak = float(np.abs(wave).max(initial=0.0))
    loud = np.flatnonzero(np.abs(wave) > _SILENCE * peak)
    if peak == 0 or not len(loud):
        raise ValueError(f"espeak-ng gave no sound for {text!r}; expected text with words in it")
    wave = wave[max(0, loud[0] - _MARGIN) : loud[-1] + 1 + _MARGIN]
    whole = np.rint(wave * (_PEAK * 32768 / peak)).astype(np.int16)
    return np.pad(whole, (0, -len(whole) % CLIP_MULTIPLE))


def _espeak(text: str, voice: Voice) -> np.ndarray:
    """What espeak-ng says: int16 (S,) at 22,050 Hz."""
    command = ["espeak-ng", "-v", voice.espeak, "-s", str(_WORDS_PER_MINUTE)]
    command += ["-p", str(voice.pitch), "-b", "1", "--stdin", "--stdout"]
    try:
        result = subprocess.run(command, input=text.encode("utf-8"), capture_output=True)
    except FileNotFoundError:
        raise ValueError(
            "speech needs espeak-ng, which is not installed; "
            "install it with `apt-get install espeak-ng` or `brew install espeak-ng`"
        ) from None
    sound = result.stdout
    if result.returncode != 0 or sound[:4] != b"RIFF":
        reason = result.stderr.decode("utf-8", "replace").strip() or f"exit {result.returncode}"
        raise ValueError(f"espeak-ng failed on {text!r}: {reason}")
    rate = int.from_bytes(sound[24:28], "little")
    start = sound.index(b"data") + 8  # the size fields are no help: espeak-ng streams
    if rate != 22_050:
        raise ValueError(f"espeak-ng gave {rate} Hz, expected 22,050; is another voice installed?")
    return np.frombuffer(sound[start : start + (len(sound) - start) // 2 * 2], dtype="<i2")
