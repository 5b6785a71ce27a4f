"""Importers: documents from the forms that data comes in, one file a kind.

Each kind's `read(source, images)` yields a `Sample` or a `Skipped` for every document of the
source; `run.import_shards` writes them into shards. What a source says is never trusted: names may
not leave its folder, nothing is fetched, every picture and sound is decoded before it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from unified_data.importers.builder import Sample, Skipped

__all__ = ["KINDS", "Read", "Sample", "Skipped", "importer"]

Read = Callable[[Path, Path | None], Iterator[Sample | Skipped]]
"""read(source, images): the documents of a source; images: the folder its media lie in."""

KINDS = {
    "obelics": "JSONL: parallel `images` and `texts`, one of the two at each place",
    "mmc4": "JSONL: `text_list`, and `image_info` with `image_name` and `matched_text_index`",
    "comm": "JSON or JSONL: `title`, `summary_info` and `step_info` of texts and pictures",
    "llava": "JSON or JSONL: `image`, and `conversations` with <image>",
    "sharegpt": "JSON or JSONL: `messages` with <image> and <audio>, `images`, `audios`",
    "coco": "JSON of captions: `images` and `annotations`",
    "folder": "pictures and sounds, each beside a .txt of the same name",
    "webdataset": "tar files: .txt or .json with .jpg, .png, .webp, .flac, .wav",
    "pairs": "CSV or JSONL: `text` with `image` or `audio` or both",
    "preferences": "JSON or JSONL: `prompt`, `chosen` and `rejected`, texts or messages",
    "parquet": "Parquet: rows of the forms above, with media in them (needs pyarrow)",
}


def importer(kind: str) -> Read:
    """The reader of a kind. Raises ValueError for a kind that is not there."""
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r} to import, expected one of {', '.join(KINDS)}")
    read: Read = import_module(f"unified_data.importers.{kind}").read
    return read
