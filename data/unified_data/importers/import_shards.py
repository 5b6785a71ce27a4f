"""Writing what an importer reads into a folder of shards, all or nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial as with_options
from pathlib import Path
from typing import Any

from unified_base.reasons import Reasons
from unified_base.whole_folder import whole_folder
from unified_data.importers import Read, Skipped, importer
from unified_data.shards import INDEX, ShardWriter, write_index

__all__ = ["SKIPPED", "import_shards"]

SKIPPED = "skipped.jsonl"
"""Beside the index: {"key", "reason"} of everything that was not taken."""
_MAX_FIELDS = 200
"""Names of ignored fields that are told apart."""


def import_shards(
    kind: str,
    source: str | Path,
    output: str | Path,
    images: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    max_skipped: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    form: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Import a source of a kind (see `KINDS`) into the folder `output`; returns a report.

    images: the folder of the media that the source names, by default the source's own.
    limit: documents to stop after (never inside a preference pair). max_skipped: how many may be
    skipped; more is an error.
    progress: called with the numbers of documents written and skipped so far. form: of Parquet's
    rows, see `parquet_forms.FORMS`; None: by the columns. tell: called with what is worth knowing.

    The report has kind, source, samples, skipped, scaled (sounds beyond full scale that were
    brought down to it), shards and bytes, and where there are some, ignored: how often each field
    of the source held something that was not taken over. The folder appears when it is complete;
    nothing is left behind after an error. Raises ValueError for a source that cannot be read or of
    which nothing can be used, and where `output` holds something already.
    """
    source, output = Path(source), Path(output)
    read = _reader(kind, form, split, tell)
    scaled, skips = 0, Reasons()
    ignored: Counter[str] = Counter()
    with whole_folder(output, INDEX) as partial:
        with (
            ShardWriter(partial, split, kind) as writer,
            open(partial / SKIPPED, "w", encoding="utf-8") as log,
        ):
            for result in read(source, None if images is None else Path(images)):
                if isinstance(result, Skipped):
                    skips.add(result.key, result.reason)
                    row = {"key": result.key, "reason": result.reason}
                    log.write(json.dumps(row) + "\n")
                    if max_skipped is not None and skips.count > max_skipped:
                        raise ValueError(
                            f"more than {max_skipped} of {source} had to be skipped; the last: "
                            f"{result.key}: {result.reason}"
                        )
                else:
                    writer.write_parts(result.key, result.obj, result.media, result.joined)
                    scaled += result.scaled
                    _count(ignored, result.ignored)
                    if result.joined:
                        continue
                if progress is not None:
                    progress(writer.samples, skips.count)
                if limit is not None and writer.samples >= limit:
                    break
        if not writer.samples:
            raise ValueError(f"nothing of {source} can be used{_why(skips)}")
        counts = {"samples": writer.samples, "skipped": skips.count, "scaled": scaled}
        fields = {"ignored": dict(ignored.most_common())} if ignored else {}
        about = {"kind": kind, "source": source.resolve().name, **counts, **fields}
        write_index(partial, writer.shards, imported=about)
    size = sum(shard.bytes for shard in writer.shards)
    return {**about, "shards": len(writer.shards), "bytes": size}


def _why(skips: Reasons) -> str:
    """Why nothing was taken, and what to do."""
    if skips.commonest is None:
        return ", it is empty; is it of another KIND? see `unified data import --help`"
    count, reason = skips.commonest
    summary = f", {skips.count} were skipped; the first: {skips.first[0]}"
    if reason != skips.first[0]:
        summary += f"; the commonest, {count} of them: {reason}"
    elif count > 1:
        summary += f", and {count - 1} more like it"
    lost = "there is no file" in reason or "there is no folder" in reason
    advice = "give the folder of the media with --images" if lost else "mend them, or the KIND"
    return f"{summary}; {advice}"


def _reader(kind: str, form: str | None, split: str, tell: Callable[[str], None] | None) -> Read:
    """The reader of a kind. Raises ValueError for a form where there are none."""
    if kind == "parquet":
        from unified_data.importers import parquet

        return with_options(parquet.read, form=form or "auto", split=split, tell=tell)
    if form is not None:
        raise ValueError(f"there are no forms of {kind}, only of parquet; leave --as out")
    return importer(kind)


def _count(ignored: Counter[str], fields: Mapping[str, int]) -> None:
    """Add a document's ignored fields; beyond a number of names they are counted as one."""
    for name, count in fields.items():
        known = name in ignored or len(ignored) < _MAX_FIELDS
        ignored[name if known else "(other fields)"] += count
