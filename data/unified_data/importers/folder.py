"""A folder of pictures and sounds, each with its text beside it: cat.jpg and cat.txt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key, media_kind
from unified_data.importers.source import MediaFolder

MAX_TEXT = 4 << 20
"""Bytes of a text file."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document for each name that has a text and media: the text is prompt, media response.

    Folders within are read too, in the order of their names; links to folders are not followed.
    """
    if images is not None:
        raise ValueError("a folder's media lie beside their texts; leave --images out")
    folder = MediaFolder(source)
    number = 0
    for path, inner, names in os.walk(source, onerror=_refuse):
        inner.sort()
        links = [name for name in inner if os.path.islink(os.path.join(path, name))]
        below = Path(path).relative_to(source)
        stems: dict[str, list[str]] = {}
        for name in sorted(names):
            stems.setdefault(name.rpartition(".")[0] or name, []).append(name)
        for stem, members in stems.items():
            key = make_key(number, (below / stem).as_posix())
            try:
                result: Sample | Skipped = _document(key, below, members, folder)
            except ValueError as error:
                result = Skipped.because(key, f"{(below / stem).as_posix()}: {error}")
            yield result
            number += 1
        for name in links:
            shown = (below / name).as_posix()
            yield Skipped.because(make_key(number, shown), f"{shown} is a link to a folder")
            number += 1


def _refuse(error: OSError) -> None:
    raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}")


def _document(key: str, below: Path, members: list[str], folder: MediaFolder) -> Sample:
    texts = [name for name in members if name.lower().endswith(".txt")]
    media = [name for name in members if media_kind(name)]
    others = sorted(set(members) - {*texts, *media})
    if others:
        raise ValueError(f"{others[0]!r} is no text, picture or sound")
    if len(texts) != 1 or not media:
        raise ValueError(f"it has {len(texts)} texts for {len(media)} pictures and sounds")
    try:
        text = folder.read((below / texts[0]).as_posix(), MAX_TEXT).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{texts[0]!r} is not UTF-8: {error.reason}") from None
    if not text:
        raise ValueError(f"{texts[0]!r} is empty")
    builder = DocumentBuilder(key, folder.read)
    builder.text(text, "prompt")
    for name in media:
        add = builder.image if media_kind(name) == "image" else builder.audio
        add((below / name).as_posix(), "response")
    return builder.sample()
