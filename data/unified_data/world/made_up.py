"""Made-up names, as `dax` and `wug`, for things that are named in the conversation itself."""

from __future__ import annotations

import numpy as np

from unified_data.pocket.subjects import find_subject
from unified_data.world.free_scene import split_of_keys

__all__ = ["made_up_name"]

_ONSETS = ("b", "bl", "br", "d", "dr", "f", "fl", "g", "gl", "gr", "h", "j", "k", "l", "m", "n",
           "p", "pl", "r", "s", "sl", "sn", "st", "t", "tr", "v", "w", "y", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u")
# Endings that hardly make an English word.
_ENDINGS = ("vik", "zug", "ndo", "mpi", "xa", "kko", "dda", "fep", "tiv", "bax", "gub", "lzo")


def made_up_name(rng: np.random.Generator, split: str) -> str:
    """A name that no subject has and that belongs to a split.

    It begins with a consonant, so that its article is `a`.
    """
    while True:
        name = "".join(
            parts[int(rng.integers(len(parts)))] for parts in (_ONSETS, _VOWELS, _ENDINGS)
        )
        if find_subject(name) is None and split_of_keys((f"made up|{name}",)) == split:
            return name
