"""Pictures unlike those a model was trained on: its tokenizer does not give them back.

A tokenizer that was trained on one kind of pictures reconstructs others worse, so the error of
decode(encode(picture)) tells what is strange to the model; reconstruction error is the oldest
measure of novelty (Japkowicz et al. 1995). The limit is measured, not chosen: the error that a
given share of known pictures stays below. It is stored beside the model as `known.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unified.formats.coded import CodedMedia
from unified.sequence.sequencer import Sequencer
from unified_base.arguments import real
from unified_base.atomic import atomic_write
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_data.document import Image

__all__ = ["KNOWN_FILE", "KnownPictures", "fit_known_pictures", "reconstruction_error"]

KNOWN_FILE = "known.json"
_MOST_BYTES = 64 << 10
_VERSION = 1


@dataclass(frozen=True)
class KnownPictures:
    """What `known.json` says.

    limit: the most reconstruction error of a picture that is known, see `reconstruction_error`.
    false_alarms: the share of known pictures above it where it was measured, on `pictures` of them.
    """

    limit: float
    false_alarms: float
    pictures: int

    def __post_init__(self) -> None:
        real("limit", self.limit, 0.0, 255.0)
        real("false_alarms", self.false_alarms, 0.0, 1.0)

    @classmethod
    def load(cls, folder: Path) -> KnownPictures | None:
        """Those of a model's folder; None where it has no known.json.

        Raises ValueError for a file of another form.
        """
        path = folder / KNOWN_FILE
        if not path.exists():
            return None
        entry: Any = read_json(path, _MOST_BYTES, dict)
        names = {"version", *cls.__dataclass_fields__}
        if set(entry) != names or entry["version"] != _VERSION:
            raise ValueError(
                f"{path} holds {quoted(entry)}, expected version {_VERSION} with"
                f" {', '.join(cls.__dataclass_fields__)}"
            )
        try:
            return cls(**{name: entry[name] for name in cls.__dataclass_fields__})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, folder: Path) -> None:
        """Write known.json into a model's folder."""
        values = {"version": _VERSION, **self.__dict__}
        atomic_write(folder / KNOWN_FILE, (json.dumps(values, indent=1) + "\n").encode())

    def strange(self, pixels: np.ndarray, sequencer: Sequencer) -> str | None:
        """Why a picture, uint8 (H, W, 3), is not known; None where it may be."""
        error = reconstruction_error(pixels, sequencer)
        if error <= self.limit:
            return None
        return (
            f"the picture is unlike those the model was trained on: its tokenizer gives it back"
            f" {error:.1f} levels off, {self.limit:.1f} at most of what it knows"
        )


def reconstruction_error(pixels: np.ndarray, sequencer: Sequencer) -> float:
    """Root mean square difference of a picture and its reconstruction, in levels of 255.

    pixels: uint8 (H, W, 3), of a size that the sequencer's tokenizer takes.
    """
    codes = sequencer.code_segment(Image(pixels))
    assert isinstance(codes, CodedMedia)
    difference = sequencer.decode_image(codes.codes).astype(np.float64) - pixels
    return math.sqrt(float(np.mean(difference**2)))


def fit_known_pictures(
    pictures: Iterable[np.ndarray], sequencer: Sequencer, false_alarms: float = 0.01
) -> KnownPictures:
    """The limit that all but a share of known pictures stay below.

    pictures: that the tokenizer was not trained on, uint8 (H, W, 3) each.

    Raises ValueError for fewer pictures than tell such a share.
    """
    share = real("false_alarms", false_alarms, 0.0, 1.0)
    errors = np.array([reconstruction_error(pixels, sequencer) for pixels in pictures])
    if len(errors) * share < 1:
        raise ValueError(
            f"there are {len(errors)} pictures, expected {math.ceil(1 / max(share, 1e-9)):,} at"
            f" least to find the {share:.3g} of them with the largest errors"
        )
    limit = float(np.quantile(errors, 1 - share, method="higher"))
    return KnownPictures(limit, float(np.mean(errors > limit)), len(errors))
