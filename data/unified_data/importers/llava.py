"""LLaVA's JSON: `id`, `image` (a name or several) and `conversations` with <image>.

Liu et al. 2023, https://arxiv.org/abs/2304.08485. They know no sound:
<audio> is words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.conversation import add_turns, refuse_fields
from unified_data.importers.records import IDS, expect, names_of, read_records


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The conversations: what the human says is prompt. source: JSON, JSONL or a folder."""
    return read_records(source, images, build)


def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    """Put the document of one record together."""
    refuse_fields(record, ("video", "videos", "audio", "audios", "tools"))
    turns = expect(record, "conversations", list)
    builder.ignore_others(record, (*IDS, "conversations", "image", "images"))
    add_turns(builder, turns, {"image": names_of(record, "image", "images")})
