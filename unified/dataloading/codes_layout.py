"""What stored codes cost in a format: ids and positions, and whether all of them can be laid out.

Codes in shards are stored by level, (K, *grid): no layout is in them, and the same shards serve a
format that lays them out in a row and one that puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unified.dataloading.source_samples import find_shards
from unified.dataloading.stored_codes import CodesOf, Stored, StoredCodes, read_stored_codes
from unified.formats.coded import CodedMedia
from unified.formats.load import load_format
from unified.formats.span_grammar import SpanGrammar
from unified.formats.spec import Format, SizeVariable
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.shard_file import ShardFile

__all__ = ["LaidCodes", "lay_codes"]

_LAYOUTS = {"row": "pocket", "together": "pocket-together"}
"""Layouts by name: the pocket's formats, for those who have no other."""
_LARGEST_SIDE = 4096  # of what states its own size: a model's vocabulary may allow less


@dataclass(frozen=True)
class LaidCodes:
    """The media of one modality in one format. spans: how many; codes, ids, positions: of all."""

    modality: str
    format: str
    spans: int
    codes: int
    ids: int
    positions: int

    def to_json(self) -> dict[str, Any]:
        return {
            "modality": self.modality, "format": self.format, "spans": self.spans,
            "codes": self.codes, "ids": self.ids, "positions": self.positions,
        }  # fmt: skip


def lay_codes(folder: str | Path, layout: str) -> list[LaidCodes]:
    """What the codes of a folder of code shards are in a format, by modality.

    Args:
        layout: "row", "together", or a format by name or file.

    Raises ValueError where the format cannot hold one of them: by shard, key and segment.
    """
    stored = read_stored_codes(folder)
    if stored is None:
        raise ValueError(
            f"{folder} holds no codes: `unified data tokenize` makes them of documents"
        )
    format = load_format(_LAYOUTS.get(layout, layout))
    spans = {
        modality: _span(format, modality, codes_of)
        for modality, codes_of in sorted(stored.media.items())
    }
    totals = {modality: np.zeros(4, np.int64) for modality in spans}

    @lru_cache(maxsize=4096)
    def lengths(modality: str, grid: tuple[int, ...]) -> tuple[int, int]:
        depths = spans[modality].expand(grid).depths
        return len(depths), int((depths == 0).sum())

    for where, position, segment in _media(folder, stored):
        try:
            spans[segment.kind].check_codes(segment.codes)
            ids, positions = lengths(segment.kind, segment.codes.shape[1:])
        except ValueError as error:
            raise ValueError(
                f"{where}: segment {position} cannot be laid out in format {format.name}: {error}"
            ) from None
        totals[segment.kind] += (1, segment.codes.size, ids, positions)
    return [LaidCodes(name, format.name, *total.tolist()) for name, total in totals.items()]


def _media(folder: str | Path, stored: StoredCodes) -> Iterator[tuple[str, int, CodedMedia]]:
    for path in find_shards([str(folder)]):
        with ShardFile(path) as shard:
            for at in range(len(shard)):
                key, obj, media = shard.parts(at)
                segments: list[Stored] = stored.from_parts(key, obj, media)
                for position, segment in enumerate(segments):
                    if isinstance(segment, CodedMedia):
                        yield f"{path.name}: {key}", position, segment


def _span(format: Format, modality: str, codes_of: CodesOf) -> SpanGrammar:
    """A kind of span over the stored codebooks alone."""
    if modality not in format.spans:
        raise ValueError(
            f"format {format.name} has no {modality} spans; it has"
            f" {', '.join(format.spans) or 'text alone'}"
        )
    spec = format.spans[modality]
    text = max(64, len(format.literals))
    blocks = [Block("text", 0, text)]
    blocks.append(Block("markers", text, len(format.markers), symbols=format.markers))
    for name in sorted({i.block for i in spec.items if isinstance(i, SizeVariable) and i.block}):
        blocks.append(Block(name, blocks[-1].stop, _LARGEST_SIDE))
    for level, size in enumerate(codes_of.codebook_sizes):
        blocks.append(Block(f"{modality}.{level}", blocks[-1].stop, size, level))
    literals = tuple((words, (at,)) for at, words in enumerate(format.literals))
    return SpanGrammar(modality, spec, Vocabulary(tuple(blocks), text, text, literals))
