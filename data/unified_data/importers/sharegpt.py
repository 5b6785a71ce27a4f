"""ShareGPT's form: `messages` (or `conversations`), with `images` and `audios` in their places.

`system` beside the messages is prompt text before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.conversation import add_turns, refuse_fields, turns_of
from unified_data.importers.records import IDS, names_of, read_records

REFUSED = ("video", "videos", "tools", "functions")


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The conversations, system and user as prompt. source: JSON, JSONL or a folder."""
    return read_records(source, images, build)


def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    """Put the document of one record together."""
    refuse_fields(record, REFUSED)
    media = {
        "image": names_of(record, "images", "image"),
        "audio": names_of(record, "audios", "audio"),
    }
    used = ("messages", "conversations", "system", "images", "image", "audios", "audio")
    builder.ignore_others(record, (*IDS, *used, *REFUSED))
    add_turns(builder, turns_of(record), media)
