"""CoMM: illustrated instructions and stories, step by step.

Chen et al. 2024, https://arxiv.org/abs/2406.10462. A record has `title`, `summary_info` (a list of
contents) and `step_info` (a list of steps, each a list of contents); a content is {"type": "text",
"content": ...} or {"type": "image", "image_path": ...}. The published .pth files are pickles, which
can run anything when they are opened, and are refused: write their list as JSON first, where that
may happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.records import IDS, expect, read_records


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The documents, without roles: title, summary, steps. source: JSON, JSONL or a folder."""
    if source.suffix in (".pth", ".pt", ".pkl"):
        raise ValueError(
            f"{source} is a pickle, which is never opened; write its list as JSON first"
        )
    return read_records(source, images, build)


def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    """Put the document of one record together."""
    builder.ignore_others(record, (*IDS, "title", "summary_info", "step_info"))
    if record.get("title") is not None:
        builder.text(expect(record, "title", str))
    if record.get("summary_info") is not None:
        _contents(expect(record, "summary_info", list), builder)
    for number, step in enumerate(expect(record, "step_info", list)):
        if not isinstance(step, list):
            raise ValueError(f"step {number} is no list of contents")
        _contents(step, builder)


def _contents(contents: list[Any], builder: DocumentBuilder) -> None:
    for content in contents:
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "text":
            builder.text(expect(content, "content", str).strip())
            used = ("type", "content")
        elif kind == "image":
            builder.image(expect(content, "image_path", str))
            used = ("type", "image_path")
        else:
            raise ValueError("a content is neither a text nor an image")
        builder.ignore_others(content, used, "content.")
