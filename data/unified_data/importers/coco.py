"""COCO captions: every caption is a prompt, its picture the response.

Chen et al. 2015, https://arxiv.org/abs/1504.00325. A picture of five captions becomes five
documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_base.structured import parse_json
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped, make_key
from unified_data.importers.source import MediaFolder, expect, source_files

MAX_CAPTIONS = 512 << 20
"""Bytes of a captions file, which is read whole: its two lists refer to each other."""


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a caption, by its number. source: a captions JSON, or a folder of them."""
    number = 0
    for path in source_files(source, (".json",)):
        folder = MediaFolder(images or path.parent)
        text = MediaFolder(path.parent).read(path.name, MAX_CAPTIONS)
        record = parse_json(text, str(path), MAX_CAPTIONS)
        if not isinstance(record, dict):
            raise ValueError(f"{path} is no JSON object with images and annotations")
        files, problems = _files(expect(record, "images", list))
        unused = set(files)
        for place, annotation in enumerate(expect(record, "annotations", list)):
            key = make_key(number)
            result: Sample | Skipped
            try:
                if not isinstance(annotation, dict):
                    raise ValueError("it is no JSON object")
                key = make_key(number, annotation.get("id"))
                image = expect(annotation, "image_id", (int, str))
                unused.discard(image)
                result = _document(key, annotation, files.get(image), folder)
            except ValueError as error:
                result = Skipped.because(key, f"{path.name} annotation {place}: {error}")
            yield result
            number += 1
        lonely = (f"image {image!r} has no caption" for image in files if image in unused)
        for reason in (*problems, *lonely):
            yield Skipped.because(make_key(number), f"{path.name}: {reason}")
            number += 1


def _files(images: list[Any]) -> tuple[dict[int | str, str], list[str]]:
    """File names by the number of the picture, and what is wrong with the others."""
    files: dict[int | str, str] = {}
    problems = []
    for place, image in enumerate(images):
        try:
            if not isinstance(image, dict):
                raise ValueError("it is no JSON object")
            number = expect(image, "id", (int, str))
            if number in files:
                raise ValueError(f"its id {number!r} is another's")
            files[number] = expect(image, "file_name", str)
        except ValueError as error:
            problems.append(f"image {place}: {error}")
    return files, problems


def _document(
    key: str, annotation: dict[str, Any], name: str | None, folder: MediaFolder
) -> Sample:
    caption = expect(annotation, "caption", str).strip()
    if not caption:
        raise ValueError("its caption is empty")
    if name is None:
        raise ValueError(f"there is no image {annotation['image_id']!r}")
    builder = DocumentBuilder(key, folder.read)
    builder.text(caption, "prompt")
    builder.image(name, "response")
    return builder.sample()
