"""The pocket world's speech: espeak-ng in three voices, at 16 kHz, word by word.

Every word is said on its own, once: espeak-ng at 200 words a minute (22,050 Hz), brought to
16,000 Hz, silence around it cut (silence: below 1% of the peak), 50 ms of silence before it and at
least 20 ms after it, completed to whole 40 ms (640 samples) and rounded to the int16 grid so that
16-bit FLAC is lossless. A clip is its words one after another, with 80 ms after a comma and 200 ms
between sentences. So a word sounds the same wherever it stands, and starts on the frame grid of
tokenizers of 25 or 50 frames a second: a small model learns it once. Connected speech, in which
every word is coded anew at each phase and pitch, had hardly been learnt after 1,200 steps (5 nats
an audio code, where knowing nothing is 6.9).
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unified_data.pocket.speech_rate import at_16_khz

SAMPLE_RATE = 16_000
CLIP_MULTIPLE = 640
"""Every clip's length is a multiple of this many samples: 40 ms."""

_WORDS_PER_MINUTE = 200
_SILENCE = 0.01
# A tokenizer's window reaches 27 ms over the end of a 40 ms frame. With 10 ms before a word, its
# beginning was in the codes of the end of the word before it: a decoder had to choose the next name
# there, in codes that were different after every word, and chose right a third of the time.
_BEFORE, _AFTER = SAMPLE_RATE // 20, SAMPLE_RATE // 50
_COMMA, _STOP = 2, 5  # pauses, in multiples of 40 ms
# On its own `a` would be read as the letter.
_WEAK = {"a": "[[a#]]"}


@dataclass(frozen=True)
class Voice:
    """A voice. espeak: espeak-ng's own name for it; pitch: 0 to 99, 50 is plain; pace: words a
    minute."""

    name: str
    espeak: str
    pitch: int
    description: str
    pace: int = _WORDS_PER_MINUTE


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
    """The text read aloud, word by word: float32 (1, S) in [-1, 1] at 16,000 Hz.

    S is a multiple of 640. The same text and voice give the same samples with the same espeak-ng.

    Raises ValueError for an unknown voice, for text that gives no sound, and when espeak-ng is not
    installed or fails.
    """
    return word_by_word(text, find_voice(voice))


def word_by_word(text: str, speaker: Voice) -> np.ndarray:
    """`speak` in a voice that need not be one of the world's."""
    if not text.strip():
        raise ValueError("there is nothing to speak: the text is empty")
    parts: list[np.ndarray] = []
    pause = 0
    for chunk in text.split():
        sound = _word(_plain(chunk), speaker)
        if len(sound):
            if parts and pause:
                parts.append(np.zeros(pause * CLIP_MULTIPLE, np.int16))
            parts.append(sound)
            pause = 0
        pause = max(pause, _pause(chunk))
    if not parts:
        raise ValueError(f"espeak-ng gave no sound for {text!r}; expected text with words in it")
    return (np.concatenate(parts) / np.float32(32768))[None]


def connected(text: str, speaker: Voice) -> np.ndarray:
    """The text read as a whole, words running into each other: float32 (1, S), S a multiple of 640.

    Raises ValueError as `speak` does.
    """
    sound = _trimmed(text, speaker)
    if not len(sound):
        raise ValueError(f"espeak-ng gave no sound for {text!r}; expected text with words in it")
    return (sound / np.float32(32768))[None]


def _plain(chunk: str) -> str:
    """What is said of a chunk between blanks: without outer punctuation, `The` as `the`."""
    word = chunk.strip(".,;:!?()[]\"\u201c\u201d\u2018\u2019'\u2013\u2014-")
    return word.lower() if word[1:].islower() or len(word) == 1 else word


def _pause(chunk: str) -> int:
    closed = chunk.rstrip(")]\"\u201d\u2019'")
    if closed.endswith((".", "!", "?")):
        return _STOP
    return _COMMA if closed.endswith((",", ";", ":", "\u2013", "\u2014")) else 0


@lru_cache(maxsize=16_384)
def _word(word: str, voice: Voice) -> np.ndarray:
    """int16 (S,), S a multiple of 640; empty where there is nothing to hear."""
    return _trimmed(_WEAK.get(word, word), voice) if word else np.zeros(0, np.int16)


def _trimmed(text: str, voice: Voice) -> np.ndarray:
    """What espeak-ng says of a text, its silence cut, as a clip's part: int16 (S,)."""
    raw = _espeak(text, voice)
    wave = at_16_khz(raw.astype(np.float32) / 32768)
    loud = np.flatnonzero(np.abs(wave) > _SILENCE * np.abs(wave).max(initial=0.0))
    if not len(loud):
        return np.zeros(0, np.int16)
    # So that a word is as loud in every clip, nothing is scaled but what would clip: the world's
    # own voices stay below 0.8, some others do not.
    wave = wave / max(1.0, float(np.abs(wave).max()))
    whole = np.rint(wave[loud[0] : loud[-1] + 1] * 32767).astype(np.int16)
    length = _BEFORE + len(whole) + _AFTER
    return np.pad(whole, (_BEFORE, _AFTER + -length % CLIP_MULTIPLE))


def _espeak(text: str, voice: Voice) -> np.ndarray:
    """What espeak-ng says: int16 (S,) at 22,050 Hz."""
    command = ["espeak-ng", "-v", voice.espeak, "-s", str(voice.pace)]
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
