"""ShareGPT's form: `messages` (or `conversations`), with `images` and `audios` in their places.

`system` beside the messages is prompt text before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.conversation import add_turns, refuse_fields
from unified_data.importers.source import expect, names_of, read_records


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The conversations, system and user as prompt. source: JSON, JSONL or a folder."""
    return read_records(source, images, _build)


def _build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    refuse_fields(record, ("videos", "tools"))
    field = "messages" if "messages" in record else "conversations"
    turns = expect(record, field, list)
    if record.get("system") is not None:
        turns = [{"role": "system", "content": expect(record, "system", str)}, *turns]
    add_turns(builder, turns, names_of(record, "images"), names_of(record, "audios"))
