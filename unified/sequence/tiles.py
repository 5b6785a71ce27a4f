"""Pictures of a document as tiles with thumbnails, and back.

As InternVL, Monkey and SPHINX show a picture: scaled to a grid of tiles, and, where that has more
than one, once more as a whole in one tile behind it, its thumbnail.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unified_data.document import Document, Image, Segment

if TYPE_CHECKING:
    from unified_tokenizers.tiled import TiledTokenizer

__all__ = ["tile_document", "untile_document"]


def tile_document(
    document: Document, tokenizer: TiledTokenizer, thumbnails: bool = True
) -> Document:
    """The document with its pictures scaled to grids of tiles, each of several with its thumbnail
    behind it."""
    segments: list[Segment] = []
    for segment in document.segments:
        if not isinstance(segment, Image):
            segments.append(segment)
            continue
        picture = replace(segment, pixels=tokenizer.preprocess(segment.pixels))
        segments.append(picture)
        if thumbnails and _has_several(picture, tokenizer):
            segments.append(replace(segment, pixels=tokenizer.thumbnail(segment.pixels)))
    return Document(tuple(segments))


def untile_document(document: Document, tokenizer: TiledTokenizer) -> Document:
    """A document of `tile_document` without its thumbnails, the pictures as they were scaled.

    Raises ValueError where a picture of several tiles has no thumbnail behind it.
    """
    segments: list[Segment] = []
    left = list(document.segments)
    while left:
        segment = left.pop(0)
        segments.append(segment)
        if isinstance(segment, Image) and _has_several(segment, tokenizer):
            behind = left.pop(0) if left else None
            if not isinstance(behind, Image) or behind.pixels.shape[:2] != tokenizer.tile:
                height, width = tokenizer.tile
                raise ValueError(
                    f"segment {len(document) - len(left) - 1} should be the thumbnail of the"
                    f" picture before it, {width}x{height} pixels; the document was not tiled with"
                    " thumbnails"
                )
    return Document(tuple(segments))


def _has_several(picture: Image, tokenizer: TiledTokenizer) -> bool:
    rows, columns, _, _ = tokenizer.grid(*picture.pixels.shape[:2])
    return rows * columns > 1
