"""Voices: those that a model of the world speaks in, and many more that it is to understand.

What is heard comes in espeak-ng's variants that are meant to be people, in seven Englishes and in
Chinese, and in voices of flite, made from recordings of people: kal, awb, slt; `rms` is held out.
A timbre in twenty is held out by hash, and as many are there for steering.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from unified_data.pocket.voices import TIMBRES
from unified_data.world.espeak import VoiceSetting
from unified_data.world.free_scene import SPLITS, split_of_keys
from unified_data.world.phonemes import CHINESE_VOICE

__all__ = ["HELD_OUT_RECORDED", "RECORDED", "SPEAKERS", "Speaker", "draw_speaker", "find_speaker",
           "split_of_timbre"]  # fmt: skip


@dataclass(frozen=True)
class Speaker:
    """A voice.

    language: en or zh. manner: of espeak-ng; its voice may be a language's with a variant,
    `en-us+f3`. recorded: flite's name of a voice from recordings; then the manner's voice tells the
    language alone, its pace how fast it speaks, and its pitch nothing.
    """

    name: str
    language: str
    manner: VoiceSetting
    description: str
    recorded: str | None = None

    @property
    def dialect(self) -> str:
        """The language by which espeak-ng writes phonemes."""
        return self.manner.voice.partition("+")[0]


# Not at espeak-ng's 175 words a minute: faster is fewer codes for a small model, and still clear.
_PACE, _PACE_ZH = 190, 270

SPEAKERS: dict[str, Speaker] = {
    speaker.name: speaker
    for speaker in (
        Speaker("amy", "en", VoiceSetting("en-us+f3", _PACE), "American, a woman's voice"),
        Speaker("ben", "en", VoiceSetting("en-us", _PACE), "American, a man's voice"),
        Speaker("cole", "en", VoiceSetting("en", _PACE, 40), "British, a man's voice, lower"),
        Speaker("dora", "en", VoiceSetting("en+f2", _PACE, 55), "British, a woman's voice"),
        Speaker("earl", "en", VoiceSetting("en-us+m3", _PACE, 30), "American, a man's deep voice"),
        Speaker("mei", "zh", VoiceSetting(f"{CHINESE_VOICE}+f3", _PACE_ZH),
                "Chinese, a woman's voice"),
    )
}  # fmt: skip
"""The voices that a model of the world speaks in, by name."""

RECORDED = {"kal": "kal16", "awb": "awb", "slt": "slt"}
HELD_OUT_RECORDED = {"rms": "rms"}
"""Voices of flite from people's recordings, with its own name; `rms` is in no training."""
_RECORDED_DIALECT = "en-us"  # flite's words are of an American dictionary, awb's accent is Scottish

# British is "en": espeak-ng finds no variant of what it calls "en-gb".
_DIALECTS = {"en-us": 0.45, "en": 0.25, "en-gb-x-rp": 0.06, "en-gb-x-gbclan": 0.06,
             "en-gb-scotland": 0.06, "en-029": 0.06, "en-us-nyc": 0.06}  # fmt: skip
_OWN, _OF_RECORDED = 0.25, 0.2  # shares of what is heard in English


def find_speaker(name: str) -> Speaker:
    """The voice called `name`. Raises ValueError naming the voices there are."""
    if name not in SPEAKERS:
        raise ValueError(f"there is no voice {name!r}, expected one of {', '.join(SPEAKERS)}")
    return SPEAKERS[name]


def split_of_timbre(timbre: str) -> str:
    """A split by hash; those of the voices that are spoken in are in `train`."""
    own = {speaker.manner.voice.partition("+")[2] for speaker in SPEAKERS.values()}
    return "train" if timbre in own else split_of_keys((f"timbre|{timbre}",))


@cache
def _timbres(split: str) -> tuple[str, ...]:
    return tuple(timbre for timbre in TIMBRES if split_of_timbre(timbre) == split)


def draw_speaker(
    split: str, language: str, rng: np.random.Generator, recorded: bool = True
) -> Speaker:
    """A voice to be heard: of `train` one in four is one that the world speaks in.

    recorded: whether there may be voices of flite: one in five of `train`'s, every second of
    `heldout`'s. Others have a timbre of the split in one of seven Englishes or in Chinese, a pitch
    of 20 to 80, 140 to 260 words a minute, and a range of 30 to 70.
    """
    assert split in SPLITS
    chance, which = rng.random(), int(rng.integers(2**31))
    pitch, pace, span = (int(rng.integers(*r)) for r in ((20, 81), (140, 261), (30, 71)))
    dialect = str(rng.choice(list(_DIALECTS), p=list(_DIALECTS.values())))
    own = [speaker for speaker in SPEAKERS.values() if speaker.language == language]
    if split == "train" and chance < _OWN:
        return own[which % len(own)]
    from_people = {"train": RECORDED, "steer": {}, "heldout": HELD_OUT_RECORDED}[split]
    share = 0.5 if split == "heldout" else _OF_RECORDED
    if recorded and language == "en" and from_people and chance > 1 - share:
        name = list(from_people)[which % len(from_people)]
        manner = VoiceSetting(_RECORDED_DIALECT, pace)
        return Speaker(name, "en", manner, "from recordings", from_people[name])
    timbres = _timbres(split)
    timbre = timbres[which % len(timbres)]
    if language == "zh":
        dialect, pace = CHINESE_VOICE, round(pace * _PACE_ZH / _PACE)
    manner = VoiceSetting(f"{dialect}+{timbre}", pace, pitch, span)
    return Speaker(timbre, language, manner, f"{timbre}, {dialect}")
