"""A folder of pictures and sounds, each with its text beside it: cat.jpg and cat.txt.

The text may be in a .caption instead. A class number beside it (.cls) is counted and not taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key, media_kind
from unified_data.importers.media_folder import MediaFolder

MAX_TEXT = 4 << 20
"""Bytes of a text file."""
TEXTS = (".txt", ".caption")
CLASSES = (".cls",)


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
            where = (below / name).as_posix()
            yield Skipped.because(make_key(number, where), f"{where} is a link to a folder")
            number += 1


def text_of(texts: dict[str, bytes]) -> str:
    """The text of a sample's .txt and .caption files, by name; "" where there is none.

    Raises ValueError where several say different things, or it is not UTF-8.
    """
    by_text: dict[str, str] = {}
    for name, data in texts.items():
        try:
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{quoted(name)} is not UTF-8: {error.reason}") from None
        if not text:
            raise ValueError(f"{quoted(name)} is empty")
        by_text.setdefault(text, name)
    if len(by_text) > 1:
        names = " and ".join(quoted(name) for name in list(by_text.values())[:3])
        raise ValueError(f"it has two texts, {names}; keep one of them")
    return next(iter(by_text), "")


def _refuse(error: OSError) -> None:
    raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}")


def _document(key: str, below: Path, members: list[str], folder: MediaFolder) -> Sample:
    texts = [name for name in members if name.lower().endswith(TEXTS)]
    media = [name for name in members if media_kind(name)]
    classes = [name for name in members if name.lower().endswith(CLASSES)]
    others = sorted(set(members) - {*texts, *media, *classes})
    if others:
        raise ValueError(f"{quoted(others[0])} is no text, picture or sound")
    if not texts or not media:
        raise ValueError(f"it has {len(texts)} texts for {len(media)} pictures and sounds")
    text = text_of({name: folder.read((below / name).as_posix(), MAX_TEXT) for name in texts})
    builder = DocumentBuilder(key, folder.read)
    for name in classes:
        builder.ignore(f".{name.rpartition('.')[2].lower()}")
    builder.text(text, "prompt")
    for name in media:
        add = builder.image if media_kind(name) == "image" else builder.audio
        add((below / name).as_posix(), "response")
    return builder.sample()
