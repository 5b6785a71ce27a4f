"""MMC4: the sentences of a web page, and which picture goes with which.

Zhu et al. 2023, https://arxiv.org/abs/2304.06939. A picture stands before the sentence that it is
matched with; sentences are joined by a blank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.records import IDS, expect, read_records


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The documents, without roles. source: JSONL, or a folder of it."""
    return read_records(source, images, build)


def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
    """Put the document of one record together."""
    builder.ignore_others(record, (*IDS, "text_list", "image_info"))
    sentences = expect(record, "text_list", list)
    matched: defaultdict[int, list[str]] = defaultdict(list)
    for number, info in enumerate(expect(record, "image_info", list)):
        if not isinstance(info, dict):
            raise ValueError(f"image {number} is no JSON object")
        index = expect(info, "matched_text_index", int)
        if not 0 <= index < len(sentences):
            raise ValueError(
                f"image {number} is matched with sentence {quoted(index)} of {len(sentences)}, "
                "from 0"
            )
        matched[index].append(expect(info, "image_name", str))
        builder.ignore_others(info, ("image_name", "matched_text_index"), "image_info.")
    for index, sentence in enumerate(sentences):
        for name in matched[index]:
            builder.image(name)
        builder.text(sentence, joiner=" ")
