"""Voices other than the pocket world's three, for tokenizers that are to hear everyone.

An audio tokenizer trained on three voices alone heard a fourth one badly: STOI 0.81 beside 0.94.
"""

from __future__ import annotations

import numpy as np

from unified_data.pocket.scenes import split_of
from unified_data.pocket.speech import Voice

__all__ = ["ACCENTS", "TIMBRES", "draw_voice"]

TIMBRES = (
    "adam", "Alex", "Alicia", "Andrea", "Andy", "anika", "Annie", "antonio", "AnxiousAndy",
    "aunty", "belinda", "benjamin", "boris", "caleb", "croak", "david", "Denis", "Diogo", "ed",
    "edward", "edward2", "f1", "f2", "f3", "f4", "f5", "Gene", "Gene2", "grandma", "grandpa",
    "gustave", "Henrique", "Hugo", "iven", "iven2", "iven3", "iven4", "Jacky", "john",
    "kaukovalta", "klatt2", "klatt3", "klatt4", "klatt5", "Lee", "linda",
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "marcelo", "Marco", "Mario", "max",
    "michael", "michel", "miguel", "Nguyen", "norbert", "pablo", "paul", "pedro",
    "quincy", "RicishayMax", "RicishayMax2", "RicishayMax3", "rob", "robert", "sandro", "shelby",
    "steph", "steph2", "steph3", "travis", "Tweaky", "victor", "whisper", "whisperf", "zac",
)  # fmt: skip
"""espeak-ng's variants of a speaker that are meant to be people, each once: some have two names."""

# British is "en": espeak-ng finds no variant of what it calls "en-gb", and says nothing.
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
_SHARES = (0.5, 0.26, 0.06, 0.06, 0.06, 0.06)


def draw_voice(split: str, rng: np.random.Generator) -> Voice:
    """A voice of a split: a timbre in one of six accents, at a pitch of 20 to 80 and 140 to 260
    words a minute. One timbre in twenty is held out, by hash, and never in `train`."""
    timbres = [timbre for timbre in TIMBRES if split_of(f"voice|{timbre}") == split]
    timbre = timbres[int(rng.integers(len(timbres)))]
    accent = ACCENTS[int(rng.choice(len(ACCENTS), p=_SHARES))]
    pitch, pace = int(rng.integers(20, 81)), int(rng.integers(140, 261))
    return Voice(timbre, f"{accent}+{timbre}", pitch, f"{timbre}, {accent}", pace)
