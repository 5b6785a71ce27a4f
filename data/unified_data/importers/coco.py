"""COCO captions: every caption is a prompt, its picture the response.

Chen et al. 2015, https://arxiv.org/abs/1504.00325. A picture of five captions becomes five
documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unified_base.files import read_bytes
from unified_base.structured import parse_json
from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.records import expect, source_files

MAX_CAPTIONS = 512 << 20
"""Bytes of a captions file, which is read whole: its two lists refer to each other."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a caption, by its number. source: a captions JSON, or a folder of them."""
    number = 0
    for path in source_files(source, (".json",)):
        folder = MediaFolder(images or path.parent)
        text = read_bytes(path, "source", MAX_CAPTIONS)
        record = parse_json(text, str(path), MAX_CAPTIONS)
        if not isinstance(record, dict):
            raise ValueError(f"{path} is no JSON object with images and annotations")
        files, problems, ignored = _files(expect(record, "images", list))
        ignored.update(name for name in record if name not in ("images", "annotations"))
        unused = set(files)
        for index, annotation in enumerate(expect(record, "annotations", list)):
            key = make_key(number)
            result: Sample | Skipped
            try:
                if not isinstance(annotation, dict):
                    raise ValueError("it is no JSON object")
                key = make_key(number, annotation.get("id"))
                image = expect(annotation, "image_id", (int, str))
                unused.discard(image)
                result = _document(key, annotation, files.get(image), folder, ignored)
                ignored.clear()  # the first document counts them
            except ValueError as error:
                result = Skipped.because(key, f"{path.name} annotation {index}: {error}")
            yield result
            number += 1
        lonely = (f"image {quoted(image)} has no caption" for image in files if image in unused)
        for reason in (*problems, *lonely):
            yield Skipped.because(make_key(number), f"{path.name}: {reason}")
            number += 1


def _files(images: list[Any]) -> tuple[dict[int | str, str], list[str], Counter[str]]:
    """File names by the number of the picture, what is wrong with the others, unused fields."""
    ignored: Counter[str] = Counter()
    files: dict[int | str, str] = {}
    problems = []
    for index, image in enumerate(images):
        try:
            if not isinstance(image, dict):
                raise ValueError("it is no JSON object")
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
