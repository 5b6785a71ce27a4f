"""What a space's branches are trained on: media, and the tower's vectors of what belongs to each.

The tower is frozen, so that its vectors are computed once, before the run.

Legend: N media, D width of the space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unified.matching.space_branches import SpaceBranch
from unified.matching.tower import Tower
from unified_data.document import Document, Image, Text
from unified_data.shards import read_shards

__all__ = ["SpacePairs", "read_pairs"]


class SpacePairs(NamedTuple):
    """Media of one branch.

    Attributes:
        media: prepared, float32 (N, ...).
        anchors: by "image" or "text", vectors float32 (N, D); NaN where a document has none.
        names: media of equal names belong together: the text, or a number of its own.
    """

    media: np.ndarray
    anchors: dict[str, np.ndarray]
    names: list[str]

    def held_to(self, anchor: str, rows: np.ndarray) -> np.ndarray:
        """Those of some rows that have an anchor."""
        return rows[np.isfinite(self.anchors[anchor][rows, 0])]


class _Pair(NamedTuple):
    media: np.ndarray
    image: np.ndarray | None
    text: str | None


def read_pairs(
    folders: Sequence[str],
    branches: Mapping[str, SpaceBranch],
    tower: Tower,
    anchors: Sequence[str],
    limit: int,
) -> dict[str, SpacePairs]:
    """The media of each branch that shards hold, with the vectors that they are held to.

    limit: of each branch, the first.

    Raises ValueError for shards that are broken, a medium that a branch cannot take, and a branch
    without two media that have an anchor.
    """
    pairs: dict[str, list[_Pair]] = {modality: [] for modality in branches}
    for folder in folders:
        for key, document in read_shards(Path(folder)):
            for modality, own in pairs.items():
                if len(own) >= limit:
                    continue
                try:
                    pair = _pair(document, branches[modality], anchors)
                except ValueError as error:
                    raise ValueError(f"{folder}, sample {key}: {error}") from None
                own += [] if pair is None else [pair]
    for modality, own in pairs.items():
        if len(own) < 2:
            raise ValueError(
                f"{', '.join(folders)} have {len(own)} documents with {modality} and"
                f" {' or '.join(anchors)}, expected at least 2"
            )
    return {modality: _with_vectors(own, tower, anchors) for modality, own in pairs.items()}


def _pair(document: Document, branch: SpaceBranch, anchors: Sequence[str]) -> _Pair | None:
    """The first medium of a branch in a document, with the first picture and text of it."""
    media = [s for s in document if getattr(s, "modality", None) == branch.modality
             and hasattr(s, "to_file")]  # fmt: skip
    pictures = [s.pixels for s in document if isinstance(s, Image) and "image" in anchors]
    texts = [s.text for s in document if isinstance(s, Text) and "text" in anchors]
    if not media or not (pictures or texts):
        return None
    prepared = branch.prepare(media[0])  # type: ignore[arg-type]
    return _Pair(prepared, next(iter(pictures), None), next(iter(texts), None))


def _with_vectors(pairs: Sequence[_Pair], tower: Tower, anchors: Sequence[str]) -> SpacePairs:
    vectors = {name: np.full((len(pairs), tower.width), np.nan, np.float32) for name in anchors}
    for name, embed in (("image", tower.embed_pictures), ("text", tower.embed_texts)):
        rows = [at for at, pair in enumerate(pairs) if getattr(pair, name) is not None]
        if name in anchors and rows:
            vectors[name][rows] = embed([getattr(pairs[at], name) for at in rows])
    names = [str(at) if pair.text is None else f"text {pair.text}" for at, pair in enumerate(pairs)]
    return SpacePairs(np.stack([pair.media for pair in pairs]), vectors, names)
