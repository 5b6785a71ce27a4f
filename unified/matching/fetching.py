"""Whether a picture that a model has drawn is kept, or one from an index stands in its place.

GILL (Koh et al. 2023, arXiv:2305.17216) draws some pictures and fetches others, by a classifier
that learnt from what people preferred. Here the classifier is logistic, over how well the drawn
picture and the nearest ones of the index fit the text in a tower's space, and learns from texts
whose true picture is known (`fetch_learning`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import exp
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from unified.matching.media_index import Hit, MediaIndex
from unified_base.config import parse_config
from unified_base.structured import read_json
from unified_data.document import Document, Image, Segment, Text

__all__ = ["CAPTION", "FEATURES", "FetchChoice", "Fetched", "features_of", "fetch_pictures",
           "text_of_picture"]  # fmt: skip

FEATURES = ("cosine of text and drawing", "cosine of text and hit", "lead of the first hit")
"""What a choice goes by: the last is by how much the first hit fits better than the second."""
CAPTION = re.compile(r"!\[([^\]]*)\]\s*$")
"""At the end of a text: what the picture behind it is of."""
_VERSION = 1


class Fetched(NamedTuple):
    """A picture of an index that stands where one was drawn.

    segment: its index in the document; text: what it goes with; probability: that it fits better.
    """

    segment: int
    text: str
    hit: Hit
    probability: float

    def to_json(self) -> dict[str, Any]:
        """As `--json` gives it."""
        return {
            "segment": self.segment, "text": self.text, **self.hit.to_json(),
            "probability": round(self.probability, 6),
        }  # fmt: skip


@dataclass(frozen=True)
class FetchChoice:
    """A learned choice between a drawing and the nearest picture of an index.

    Attributes:
        version: of this form.
        index: the folder of the index that it learnt with.
        tower: the fingerprint of that index's tower.
        mean, scale: of the features in the examples.
        weights: of the features so scaled.
        bias: added to them.
        examples: texts that it learnt from.
        fetched: of them, those where the index had the better picture.
        right: of them, those that a choice which had not seen them decides right.
    """

    version: int
    index: str
    tower: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    examples: int
    fetched: int
    right: int

    def __post_init__(self) -> None:
        if self.version != _VERSION:
            raise ValueError(f"version is {self.version}, expected {_VERSION}")
        for name in ("mean", "scale", "weights"):
            if len(getattr(self, name)) != len(FEATURES):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} numbers, expected {len(FEATURES)}"
                )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The choice in a file of `unified tower choose`. Raises ValueError for any other file."""
        return parse_config(cls, read_json(path), str(path))

    def to_bytes(self) -> bytes:
        """What `load` reads."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def probability(self, features: Sequence[float]) -> float:
        """That the picture of the index is the better one, 0 to 1. features: see `FEATURES`."""
        scaled = (np.asarray(features, np.float64) - self.mean) / self.scale
        logit = float(scaled @ np.asarray(self.weights)) + self.bias
        return 1 / (1 + exp(-logit)) if logit > -500 else 0.0

    def check(self, index: MediaIndex) -> None:
        """Raises ValueError for an index by another tower: its cosines mean something else."""
        if index.header.fingerprint != self.tower:
            raise ValueError(
                f"the choice was learnt with a tower of fingerprint {self.tower}, the index"
                f" {index.folder} was built by {index.header.fingerprint}; learn it anew"
                " (`unified tower choose`)"
            )


def features_of(index: MediaIndex, text: str, drawn: np.ndarray) -> tuple[tuple[float, ...], Hit]:
    """What a choice goes by, and the nearest picture of the index.

    Args:
        index: with two pictures at least.
        text: what the picture is of.
        drawn: uint8 (H, W, 3).

    Raises:
        ValueError: a smaller index, or a text that is longer than its tower reads.
    """
    if len(index) < 2:
        raise ValueError(
            f"the index {index.folder} has {len(index)} pictures, expected 2 or more: there is"
            " nothing to choose among"
        )
    tower = index.tower
    vector_D = tower.embed_texts([text])[0]
    first, second = index.search(vector_D, 2)
    drawing = float(tower.embed_pictures([drawn])[0] @ vector_D)
    return (drawing, first.score, first.score - second.score), first


def fetch_pictures(
    document: Document, index: MediaIndex, choice: FetchChoice
) -> tuple[Document, tuple[Fetched, ...], tuple[str, ...]]:
    """A document in which pictures of an index stand where they fit better than those drawn.

    Pictures of the prompt stay. What a picture is of, `text_of_picture` says.

    Returns:
        The document, what was fetched, and notes on pictures that could not be looked for.

    Raises:
        ValueError: an index that the choice was not learnt for, or a picture of it that is no
            longer where it was.
    """
    choice.check(index)
    segments: list[Segment] = list(document.segments)
    fetched, notes, number = [], [], 0
    for at, segment in enumerate(segments):
        if not isinstance(segment, Image) or segment.role == "prompt":
            continue
        number += 1
        text = text_of_picture(segments, at)
        if text is None:
            notes.append(f"picture {number} has no text before it, so it stays as it was drawn")
            continue
        try:
            features, hit = features_of(index, text, segment.pixels)
        except ValueError as error:
            notes.append(f"picture {number} stays as it was drawn: {error}")
            continue
        probability = choice.probability(features)
        if probability > 0.5:
            segments[at] = replace(segment, pixels=hit.read().array)
            fetched.append(Fetched(at, text, hit, probability))
    return Document(tuple(segments)), tuple(fetched), tuple(notes)


def text_of_picture(segments: Sequence[Segment], at: int) -> str | None:
    """What a picture is of: its caption, `![a fox]` right before it, or the last line before it.

    None where no text stands before it.
    """
    before = segments[at - 1] if at else None
    if not isinstance(before, Text):
        return None
    if match := CAPTION.search(before.text):
        return match[1].strip() or None
    lines = before.text.split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
