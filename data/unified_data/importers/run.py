"""Writing what an importer reads into a folder of shards, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unified_base.whole_folder import whole_folder
from unified_data.importers import Skipped, importer
from unified_data.shards import INDEX, ShardWriter, write_index

__all__ = ["SKIPPED", "import_shards"]

SKIPPED = "skipped.jsonl"
"""Beside the index: {"key", "reason"} of everything that was not taken."""


def import_shards(
    kind: str,
    source: str | Path,
    output: str | Path,
    images: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    max_skipped: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Import a source of a kind (see `KINDS`) into the folder `output`; returns a report.

    images: the folder of the media that the source names, by default the source's own.
    limit: documents to stop after (never inside a preference pair). max_skipped: how many may be
    skipped; more is an error.
    progress: called with the numbers of documents written and skipped so far.

    The report has kind, source, samples, skipped, scaled (sounds beyond full scale that were
    brought down to it), shards and bytes. The folder appears when it is complete; nothing is left
    behind after an error. Raises ValueError for a source that cannot be read or of which nothing
    can be used, and where `output` holds something already.
    """
    source, output = Path(source), Path(output)
    read = importer(kind)
    skipped = scaled = 0
    first: Skipped | None = None
    with whole_folder(output, INDEX) as partial:
        with (
            ShardWriter(partial, split, kind) as writer,
            open(partial / SKIPPED, "w", encoding="utf-8") as log,
        ):
            for result in read(source, None if images is None else Path(images)):
                if isinstance(result, Skipped):
                    skipped += 1
                    first = first or result
                    row = {"key": result.key, "reason": result.reason}
                    log.write(json.dumps(row) + "\n")
                    if max_skipped is not None and skipped > max_skipped:
                        raise ValueError(
                            f"more than {max_skipped} of {source} had to be skipped; the last: "
                            f"{result.key}: {result.reason}"
                        )
                else:
                    writer.write_parts(result.key, result.obj, result.media, result.joined)
                    scaled += result.scaled
                    if result.joined:
                        continue
                if progress is not None:
                    progress(writer.samples, skipped)
                if limit is not None and writer.samples >= limit:
                    break
        if not writer.samples:
            why = f"; the first: {first.key}: {first.reason}" if first else ", it is empty"
            raise ValueError(f"nothing of {source} can be used, {skipped} were skipped{why}")
        counts = {"samples": writer.samples, "skipped": skipped, "scaled": scaled}
        about = {"kind": kind, "source": source.resolve().name, **counts}
        write_index(partial, writer.shards, imported=about)
    size = sum(shard.bytes for shard in writer.shards)
    return {**about, "shards": len(writer.shards), "bytes": size}
