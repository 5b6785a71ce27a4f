"""COCO captions: every caption is a prompt, its picture the response.

Chen et al. 2015, https://arxiv.org/abs/1504.00325. A picture of five captions becomes five
documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.json_stream import json_items, json_members
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.records import expect, open_source, source_files

_MOST_BLANKS = 4_096

MAX_IMAGES = 2_000_000
"""Pictures that one file of captions lists: their names are held while its captions are read."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a caption, by its number. source: a captions JSON, or a folder of them.

    A file is read an item at a time, whatever its size and whichever of its lists comes first.
    """
    number = 0
    for path in source_files(source, (".json",)):
        folder = MediaFolder(images or path.parent)
        with open_source(path) as stream:
            members = json_members(stream, str(path))
            for name in ("images", "annotations"):
                if name not in members:
                    raise ValueError(f"{path}: it has no {name!r}")
            files, problems, ignored = _files(_items(stream, members, "images", path), path)
            ignored.update(name for name in members if name not in ("images", "annotations"))
            unused = set(files)
            for index, annotation in enumerate(_items(stream, members, "annotations", path)):
                key = make_key(number)
                result: Sample | Skipped
                try:
                    record = _object(annotation)
                    key = make_key(number, record.get("id"))
                    image = expect(record, "image_id", (int, str))
                    unused.discard(image)
                    result = _document(key, record, files.get(image), folder, ignored)
                    ignored.clear()  # the first document counts them
                except ValueError as error:
                    result = Skipped.because(key, f"{path.name} annotation {index}: {error}")
                yield result
                number += 1
        lonely = (f"image {quoted(image)} has no caption" for image in files if image in unused)
        for reason in (*problems, *lonely):
            yield Skipped.because(make_key(number), f"{path.name}: {reason}")
            number += 1


def _items(
    stream: IO[bytes], members: dict[str, int], name: str, path: Path
) -> Iterator[bytes | ValueError]:
    """The items of one of the file's lists. Raises ValueError where it is none."""
    stream.seek(members[name])
    if stream.read(_MOST_BLANKS).lstrip()[:1] != b"[":
        raise ValueError(f"{path}: {name!r} is no list")
    stream.seek(members[name])
    return json_items(stream, alone=False)


def _object(item: bytes | ValueError) -> dict[str, Any]:
    """The object of a list's item. Raises ValueError for anything else."""
    if isinstance(item, ValueError):
        raise item
    value = parse_json(item, "it")
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _files(
    images: Iterable[bytes | ValueError], path: Path
) -> tuple[dict[int | str, str], list[str], Counter[str]]:
    """File names by the number of the picture, what is wrong with the others, unused fields.

    Raises ValueError for more than `MAX_IMAGES`.
    """
    ignored: Counter[str] = Counter()
    files: dict[int | str, str] = {}
    problems = []
    for index, item in enumerate(images):
        if index >= MAX_IMAGES:
            raise ValueError(f"{path} lists more than {MAX_IMAGES:,} pictures; split the file")
        try:
            image = _object(item)
            number = expect(image, "id", (int, str))
            if number in files:
                raise ValueError(f"its id {quoted(number)} is another's")
            files[number] = expect(image, "file_name", str)
            ignored.update(f"images.{name}" for name in image if name not in ("id", "file_name"))
        except ValueError as error:
            problems.append(f"image {index}: {error}")
    return files, problems, ignored


def _document(
    key: str,
    annotation: dict[str, Any],
    name: str | None,
    folder: MediaFolder,
    ignored: Mapping[str, int],
) -> Sample:
    caption = expect(annotation, "caption", str).strip()
    if not caption:
        raise ValueError("its caption is empty")
    if name is None:
        raise ValueError(f"there is no image {quoted(annotation['image_id'])}")
    builder = DocumentBuilder(key, folder.read)
    builder.ignore_others(annotation, ("id", "image_id", "caption"), "annotations.")
    for field, count in ignored.items():
        builder.ignore(field, count=count)
    builder.text(caption, "prompt")
    builder.image(name, "response")
    return builder.sample()
