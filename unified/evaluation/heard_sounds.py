"""Speech to be listened to: which sentence, in which voice and manner, altered how.

Legend: S samples at 16 kHz.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from shutil import which

import numpy as np

from unified.evaluation.outside_sentences import OUTSIDE_SENTENCES
from unified_base.sounds import conform, load_audio
from unified_data.document import Audio
from unified_data.pocket.scenes import compose
from unified_data.pocket.speech import SAMPLE_RATE, VOICES, Voice, connected, word_by_word
from unified_data.pocket.subjects import load_subjects
from unified_data.pocket.voices import draw_voice

__all__ = ["HEARD", "HeardSound", "Manner", "alter_sound", "draw_sound", "flite", "lacks_of",
           "said_plainly", "splice"]  # fmt: skip

_FLITE = ("kal", "awb", "slt")
_FLITE_UNSEEN = "rms"
_PACES, _PITCHES = (130, 280), (15, 85)
_BAND = (300.0, 3400.0)  # Hz: a telephone's


@dataclass(frozen=True)
class Manner:
    """How a condition speaks.

    source: of the sentence: "leads", "facts", "captions" or "outside". words: word by word, as the
    pocket world's first speech is, else connected. alter: of `alter_sound`. voice: "seen",
    "unseen", "flite" or "flite unseen". splice: two sentences' halves.
    """

    source: str = "leads"
    words: bool = False
    alter: str = ""
    voice: str = "seen"
    splice: bool = False


HEARD: dict[str, Manner] = {
    "word by word": Manner(words=True),
    "facts word by word": Manner("facts", words=True),
    "quiet word by word": Manner(words=True, alter="quiet"),
    "silence word by word": Manner(words=True, alter="silence"),
    "noise word by word": Manner(words=True, alter="noise"),
    "splice word by word": Manner(words=True, splice=True),
    "connected": Manner(),
    "captions": Manner("captions"),
    "facts": Manner("facts"),
    "quiet": Manner(alter="quiet"),
    "silence": Manner(alter="silence"),
    "noise": Manner(alter="noise"),
    "pace": Manner(alter="pace"),
    "pitch": Manner(alter="pitch"),
    "loudness": Manner(alter="loudness"),
    "band": Manner(alter="band"),
    "unseen voices": Manner(voice="unseen"),
    "flite": Manner(voice="flite"),
    "flite unseen": Manner(voice="flite unseen"),
    "outside": Manner("outside"),
    "splice": Manner(splice=True),
}
"""Conditions of listening."""


@dataclass(frozen=True, eq=False)
class HeardSound:
    """A sound and what is said in it. sources: of a splice its two sentences, else none."""

    condition: str
    text: str
    sound: Audio
    voice: Voice | str
    sources: tuple[str, ...] = ()

    @property
    def voice_name(self) -> str:
        return self.voice if isinstance(self.voice, str) else self.voice.name


def lacks_of(condition: str) -> str | None:
    """What this machine lacks for a condition; None where nothing."""
    if which("espeak-ng") is None and not HEARD[condition].voice.startswith("flite"):
        return "speech needs espeak-ng, which is not installed"
    if which("flite") is None and HEARD[condition].voice.startswith("flite"):
        return "the recorded voices need flite, which is not installed (`apt-get install flite`)"
    return None


def alter_sound(condition: str, wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip under a condition: float32 (1, S) at 16 kHz; the others leave it as it is.

    quiet: half the amplitude. loudness: a twentieth to all of it. silence: 2.5 ms to 1 s before
    it. noise: white, 20 dB below it. band: 300 to 3,400 Hz alone.
    """
    if condition == "quiet":
        return wave * np.float32(0.5)
    if condition == "loudness":
        return wave * np.float32(np.exp(rng.uniform(np.log(0.05), 0)))
    if condition == "silence":
        samples = int(SAMPLE_RATE * np.exp(rng.uniform(np.log(0.0025), 0)))
        return np.pad(wave, ((0, 0), (samples, 0)))
    if condition == "noise":
        level = float(np.sqrt(np.mean(wave**2))) / 10
        noise = rng.normal(0, level, wave.shape).astype(np.float32)
        noisy: np.ndarray = (wave + noise).clip(-1, 1)
        return noisy
    if condition == "band":
        spectrum = np.fft.rfft(wave[0].astype(np.float64))
        hertz = np.fft.rfftfreq(wave.shape[1], 1 / SAMPLE_RATE)
        spectrum[(hertz < _BAND[0]) | (hertz > _BAND[1])] = 0
        banded = np.fft.irfft(spectrum, wave.shape[1])
        return banded.clip(-1, 1).astype(np.float32)[None]
    return wave


def splice(first: str, second: str) -> str:
    """The first half of a sentence's words and the second half of another's."""
    begin, end = first.rstrip(".").split(), second.split()
    return " ".join([*begin[: len(begin) // 2], *end[len(end) // 2 :]])


def _sentences(source: str, rng: np.random.Generator) -> tuple[str, str]:
    """Two different sentences of a source."""
    if source == "captions":
        first, second = (compose(rng, "two").caption for _ in range(2))
        return f"It is {first}.", f"It is {second}."
    if source == "outside":
        texts: Sequence[str] = OUTSIDE_SENTENCES
    elif source == "facts":
        texts = [text for subject in load_subjects() for text in subject.sentences[1:]]
    else:
        texts = [subject.lead for subject in load_subjects()]
    first, other = (texts[i] for i in rng.permutation(len(texts))[:2])
    return first, other


def _voice(manner: Manner, rng: np.random.Generator) -> Voice | str:
    if manner.voice == "flite":
        return _FLITE[int(rng.integers(len(_FLITE)))]
    if manner.voice == "flite unseen":
        return _FLITE_UNSEEN
    if manner.voice == "unseen":
        return draw_voice("heldout", rng)
    voice = list(VOICES.values())[int(rng.integers(len(VOICES)))]
    if manner.alter == "pace":
        return replace(voice, pace=int(rng.integers(*_PACES)))
    return replace(voice, pitch=int(rng.integers(*_PITCHES))) if manner.alter == "pitch" else voice


def draw_sound(condition: str, rng: np.random.Generator) -> HeardSound:
    """A sound of a condition, at random. Raises ValueError where its synthesiser fails."""
    manner = HEARD[condition]
    text, other = _sentences(manner.source, rng)
    voice = _voice(manner, rng)
    sources = (text, other) if manner.splice else ()
    if sources:
        text = splice(*sources)
    wave = said_plainly(text, voice, manner.words)
    sound = Audio(alter_sound(manner.alter, wave, rng), SAMPLE_RATE)
    return HeardSound(condition, text, sound, voice, sources)


@lru_cache(maxsize=2048)
def said_plainly(text: str, voice: Voice | str, words: bool = False) -> np.ndarray:
    """A text in a voice of espeak-ng, or one of flite by its name: float32 (1, S) at 16 kHz."""
    if isinstance(voice, str):
        return flite(text, voice)
    return word_by_word(text, voice) if words else connected(text, voice)


def flite(text: str, voice: str) -> np.ndarray:
    """A text in one of flite's voices, recorded from people: float32 (1, S) at 16 kHz.

    Raises ValueError where flite is not installed, or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
        try:
            result = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            raise ValueError(
                "this voice needs flite, which is not installed; `apt-get install flite`"
            ) from None
        if result.returncode or not path.exists():
            reason = result.stderr.decode("utf-8", "replace").strip() or "it wrote nothing"
            raise ValueError(f"flite failed on {text!r}: {reason}")
        wave, rate = load_audio(path)
    return conform(wave, rate, SAMPLE_RATE, 1)
