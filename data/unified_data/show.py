"""Samples of shards as one self-contained HTML page.

Pictures and sounds lie in the page as the shard has them. All text is escaped, and a content
security policy forbids scripts and anything loaded from elsewhere: what someone wrote into a
dataset cannot act. The same samples give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.atomic import atomic_write
from unified_base.html_page import data_address, render_html
from unified_base.text import counted
from unified_data.document import (
    Audio,
    Dialogue,
    Document,
    Image,
    Location,
    Media,
    Segment,
    Slot,
    Text,
)
from unified_data.segments import media_classes
from unified_data.shard_file import ShardFile
from unified_data.shard_index import count_fault, read_index
from unified_data.shards import CorruptSample, document_of, shard_paths

__all__ = ["render_samples", "show_shards"]

MAX_PAGE = 64 << 20
"""Bytes of media that a page holds; of samples beyond that only the text is shown."""
_MAX_TEXT = 20_000
"""Characters of one text that are shown."""

_SIDE = 240
"""CSS pixels that a small picture is drawn up to, in whole multiples."""

_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"fLaC", "audio/flac"),
          (b"GIF8", "image/gif"), (b"BM", "image/bmp"))  # fmt: skip
"""Media types by what a file begins with: its name may say anything."""

Shown = tuple[str, Document, dict[str, bytes], Any]
"""Key, document, media bytes by name, JSON object: a sample as the page needs it."""
_View = dict[str, Any]
"""What the template prints of a sample or a segment."""


def show_shards(source: str | Path, output: str | Path, count: int = 24, seed: int = 0) -> int:
    """Write a page of `count` samples, drawn at random by the seed; returns how many it shows.

    source: a folder of shards with an index, or a tar file. Broken samples are shown as such.
    Raises ValueError where there is nothing to show, or the page cannot be written.
    """
    if Path(source).is_dir() and "codes" in read_index(source):
        raise ValueError(f"{source} has stored codes; show the documents they were made from")
    samples = list(_drawn(source, count, seed))
    if not samples:
        raise ValueError(f"{source} has no samples to show")
    page = render_samples(samples, Path(source).resolve().name)
    atomic_write(output, page.encode("utf-8"))
    return len(samples)


def render_samples(samples: Iterable[Shown | CorruptSample], title: str) -> str:
    """The page of some samples."""
    room = MAX_PAGE
    cards: list[_View] = []
    for sample in samples:
        if isinstance(sample, CorruptSample):
            name = sample.key or Path(sample.shard).name
            cards.append({"name": name, "broken": sample.reason[:1000]})
            continue
        size = sum(map(len, sample[2].values()))
        cards.append(_card(sample, size <= room))
        room -= size if size <= room else 0
    about = counted(len(cards), "sample")
    return render_html("unified_data", "samples", title, about=about, cards=cards)


def _drawn(source: str | Path, count: int, seed: int) -> Iterator[Shown | CorruptSample]:
    """Samples without repetition, in the order of the shards; a shard is opened where needed."""
    shards = [(path, *_to_draw_from(path, number)) for path, number in shard_paths(source)]
    ends = np.cumsum([number for _, number, _ in shards])
    total = int(ends[-1]) if len(ends) else 0
    chosen = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    for shard_number, (path, number, fault) in enumerate(shards):
        begin = int(ends[shard_number]) - number
        here = sorted(int(i) - begin for i in chosen if begin <= i < begin + number)
        if not here:
            continue
        try:
            shard = ShardFile(path, tolerant=True)
        except ValueError as error:
            yield CorruptSample(str(path), "", str(error))
            continue
        with shard:
            for i in here:
                if i >= len(shard):
                    yield CorruptSample(
                        str(path), "", shard.damage or fault or f"it has no sample {i}"
                    )
                    break
                try:
                    key, obj, media = shard.parts(i)
                    yield key, document_of(key, obj, media), media, obj
                except ValueError as error:
                    yield CorruptSample(str(path), shard.key(i), str(error))


def _to_draw_from(path: Path, count: int | None) -> tuple[int, str]:
    """How many samples of a shard may be drawn, and what is wrong with it, which is one more.

    count: what the index says, which is believed where the file can hold so many.
    """
    fault = "" if count is None else count_fault(path, count) or ""
    if count is not None and not fault:
        return count, ""
    try:
        with ShardFile(path, tolerant=True) as shard:
            fault = shard.damage or fault
            return len(shard) + bool(fault), fault
    except ValueError as error:
        if count is None:  # not of an index: it is what was asked for
            raise
        return 1, str(error)


def _media_type(segment: Image | Audio, data: bytes) -> str:
    if data[:4] == b"RIFF":
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    unknown = "image/png" if isinstance(segment, Image) else "audio/mpeg"
    return next((kind for magic, kind in _TYPES if data.startswith(magic)), unknown)


def _card(sample: Shown, with_media: bool) -> _View:
    key, document, media, obj = sample
    kinds = [
        segment.modality if isinstance(segment, Media) else type(segment).__name__.lower()
        for segment in document
    ]
    nouns = {modality: cls.noun for modality, cls in media_classes().items()}
    summary = ", ".join(
        counted(kinds.count(kind), name)
        for kind, name in {**nouns, "slot": "slot"}.items()
        if kind in kinds
    )
    rows = zip(document, obj["segments"])
    groups = [
        (role, [_segment(segment, media.get(row.get("file", ""), b""), row, with_media)
                for segment, row in group])
        for role, group in groupby(rows, lambda pair: pair[0].role)
    ]  # fmt: skip
    return {"name": key, "broken": None, "summary": summary or "text", "groups": groups}


def _segment(segment: Segment, data: bytes, row: dict[str, Any], with_media: bool) -> _View:
    usual = segment.loss == (segment.role != "prompt")
    weight = "" if usual else f"loss weight {segment.loss:g}"
    return {**_content(segment, data, row, with_media), "weight": weight}


def _content(segment: Segment, data: bytes, row: dict[str, Any], with_media: bool) -> _View:
    if isinstance(segment, Text):
        rest = len(segment.text) - _MAX_TEXT
        more = f"... {counted(rest, 'more character')}" if rest > 0 else ""
        return {"kind": "text", "text": segment.text[:_MAX_TEXT], "more": more}
    if isinstance(segment, Slot):
        sides = f" {segment.width}x{segment.height}" if segment.height else ""
        return {"kind": "slot", "about": f"{segment.modality}{sides} goes here"}
    if isinstance(segment, Location):
        at = ", ".join(f"{value:g}" for value in segment.at)
        return {"kind": "slot", "about": f"{segment.noun} {at} of {segment.width}x{segment.height}"}
    if isinstance(segment, Image):
        height, width = segment.pixels.shape[:2]
        about = f"{width}x{height}"
    elif not isinstance(segment, Audio):
        about = segment.noun
    else:
        about = f"{segment.waveform.shape[1] / segment.sample_rate:.2f} s, {segment.sample_rate} Hz"
    if isinstance(segment, Dialogue):
        about = f"two voices, {about}"
    extension = row["file"].rpartition(".")[2]
    about += f", {extension}, {counted(len(data), 'byte')}"
    if not with_media:
        return {"kind": "slot", "about": f"not shown, the page is full: {about}"}
    if not isinstance(segment, Image | Audio):
        return {"kind": "slot", "about": about}
    address = data_address(_media_type(segment, data), data)
    if not isinstance(segment, Image):
        return {"kind": "audio", "about": about, "address": address}
    height, width = segment.pixels.shape[:2]
    scale = min(4, max(1, _SIDE // max(height, width)))
    drawn = {"width": scale * width, "height": scale * height}
    return {"kind": "image", "about": about, "address": address, **drawn}
