"""Samples of shards as one self-contained HTML page.

Pictures and sounds lie in the page as the shard has them. All text is escaped, and a content
security policy forbids scripts and anything loaded from elsewhere: what someone wrote into a
dataset cannot act. The same samples give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from unified_base.atomic import atomic_write
from unified_base.html_page import as_text, data_address, html_page
from unified_data.document import Audio, Document, Image, Media, Segment, Slot, Text
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
    style = resources.files("unified_data").joinpath("show.css").read_text("utf-8")
    room = MAX_PAGE
    cards = []
    for sample in samples:
        if isinstance(sample, CorruptSample):
            cards.append(_broken(sample))
            continue
        size = sum(map(len, sample[2].values()))
        cards.append(_card(sample, size <= room))
        room -= size if size <= room else 0
    body = [
        f"<header><h1>{as_text(title)}</h1><p>{_count(len(cards), 'sample')}</p></header>",
        "<main>",
        *cards,
        "</main>",
    ]
    return html_page(title, style, body)


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


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _broken(broken: CorruptSample) -> str:
    where = broken.key or Path(broken.shard).name
    return (
        f'<article class="broken"><h2>{as_text(where)}</h2>'
        f"<p><b>Broken.</b> {as_text(broken.reason[:1000])}</p></article>"
    )


def _card(sample: Shown, with_media: bool) -> str:
    key, document, media, obj = sample
    kinds = [
        segment.modality if isinstance(segment, Media) else type(segment).__name__.lower()
        for segment in document
    ]
    nouns = {modality: cls.noun for modality, cls in media_classes().items()}
    summary = ", ".join(
        _count(kinds.count(kind), name)
        for kind, name in {**nouns, "slot": "slot"}.items()
        if kind in kinds
    )
    parts = [f"<article><h2>{as_text(key)}</h2><p>{summary or 'text'}</p>"]
    role: str | None = None
    for segment, row in zip(document, obj["segments"]):
        if segment.role != role:
            parts.append(f"{'</section>' if role else ''}")
            role = segment.role
            parts.append(f'<section class="{role}"><h3>{role}</h3>' if role else "")
        markup = _segment(segment, media.get(row.get("file", ""), b""), row, with_media)
        weight = "" if segment.loss == (role != "prompt") else f"loss weight {segment.loss:g}"
        parts.append(markup + (f'<p class="weight">{weight}</p>' if weight else ""))
    return "".join([*parts, "</section>" if role else "", "</article>"])


def _segment(segment: Segment, data: bytes, row: dict[str, Any], with_media: bool) -> str:
    if isinstance(segment, Text):
        rest = len(segment.text) - _MAX_TEXT
        more = f'<span class="more"> ... {rest:,} more characters</span>' if rest > 0 else ""
        return f'<p class="text">{as_text(segment.text[:_MAX_TEXT])}{more}</p>'
    if isinstance(segment, Slot):
        sides = f" {segment.width}x{segment.height}" if segment.height else ""
        return f'<p class="slot">{segment.modality}{sides} goes here</p>'
    if isinstance(segment, Image):
        height, width = segment.pixels.shape[:2]
        about = f"{width}x{height}"
    elif not isinstance(segment, Audio):
        about = segment.noun
    else:
        about = f"{segment.waveform.shape[1] / segment.sample_rate:.2f} s, {segment.sample_rate} Hz"
    extension = row["file"].rpartition(".")[2]
    about += f", {extension}, {len(data):,} bytes"
    if not with_media:
        return f'<p class="slot">not shown, the page is full: {as_text(about)}</p>'
    if not isinstance(segment, Image | Audio):
        return f'<p class="slot">{as_text(about)}</p>'
    address = data_address(_media_type(segment, data), data)
    if isinstance(segment, Image):
        height, width = segment.pixels.shape[:2]
        scale = min(4, max(1, _SIDE // max(height, width)))
        sides = f'width="{scale * width}" height="{scale * height}"'
        medium = f'<img src="{address}" {sides} alt="{as_text(about)}">'
    else:
        medium = f'<audio controls preload="metadata" src="{address}"></audio>'
    return f"<figure>{medium}<figcaption>{as_text(about)}</figcaption></figure>"
