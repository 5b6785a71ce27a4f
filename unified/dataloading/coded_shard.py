"""One shard of documents to one of codes, and when it counts as finished.

Beside the new shard lies a small JSON file: which shard it was made from, by what, and what was
left out. The shards of documents are compared with their checksums; the new one gets its own.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified.dataloading.media_encoder import MediaEncoder, one_thread
from unified.dataloading.stored_codes import StoredCodes
from unified_base.atomic import atomic_path, atomic_write
from unified_base.checksums import read_sealed, sealed_json
from unified_base.reasons import Reasons
from unified_base.shard_sums import make_sums, read_sums, sums_path, verify_shard
from unified_data.document import Document, Media, Segment
from unified_data.shard_index import ShardInfo, shard_info, split_and_kind
from unified_data.shards import CorruptSample, add_sample, read_samples

__all__ = ["beside", "commonest", "finished", "is_whole", "read_beside", "tokenize_shard"]

_WINDOW = 128_000_000
"""Bytes of decoded media that are held at a time."""
_REASONS = 20
"""Reasons for what was left out that are kept of each shard."""

Sample = tuple[str, Document] | CorruptSample


def tokenize_shard(shard: Path, folder: Path, encoder: MediaEncoder) -> dict[str, Any]:
    """Code one shard; returns what the JSON file beside the new one holds."""
    target = folder / shard.name
    about = _about(shard, encoder.stored)
    skipped = Reasons(_REASONS)
    keys, ends = list[str](), list[int]()
    beside(target).unlink(missing_ok=True)  # what it says is of the shard that goes now
    with one_thread(), atomic_path(target) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for window in _windows(_samples(shard)):
                for key, coded in _coded(window, encoder):
                    if isinstance(coded, str):
                        skipped.add(key or "its end", coded)
                        continue
                    add_sample(tar, key, *coded)
                    keys.append(key)
                    ends.append(tar.offset)
        size = partial.stat().st_size
        digest, sums = make_sums(partial, keys, ends)
        sums_path(target).unlink(missing_ok=True)
    atomic_write(sums_path(target), sums)
    split, kind = split_and_kind(shard)
    info = ShardInfo(shard.name, split, kind, len(keys), size, digest)
    about |= {"shard": info.to_json(), "left_out": _in_json(skipped)}
    atomic_write(beside(target), sealed_json(about, indent=1))
    return about


def _in_json(skipped: Reasons) -> dict[str, Any]:
    """What was left out; commonest: of how many samples, and the first of them with its reason."""
    entries: dict[str, Any] = {"samples": skipped.count, "reasons": skipped.first}
    if skipped.commonest is not None:
        count, reason = skipped.commonest
        entries["commonest"] = {"samples": count, "reason": reason}
    return entries


def commonest(skipped: Iterable[Mapping[str, Any]]) -> tuple[int, str]:
    """Of several shards' `skipped` the commonest reason, and how many samples it is at least."""
    entries = [entry["commonest"] for entry in skipped if "commonest" in entry]
    if not entries:
        return 0, "they hold nothing"
    best = max(entries, key=lambda entry: int(entry["samples"]))
    return int(best["samples"]), str(best["reason"])


def _samples(shard: Path) -> Iterator[Sample]:
    """The samples of a shard, compared with its checksums.

    Raises ValueError where it has changed and nothing says in which of its samples.
    """
    if (damaged := verify_shard(shard)) and read_sums(shard) is None:
        raise ValueError(f"shard {shard}: {damaged[0].reason}; take it anew from where it came")
    yield from read_samples(shard)


def _windows(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    window: list[Sample] = []
    size = 0
    for sample in samples:
        window.append(sample)
        if not isinstance(sample, CorruptSample):
            size += sum(_size(segment) for segment in sample[1])
        if size > _WINDOW:
            yield window
            window, size = [], 0
    yield window


def _size(segment: Segment) -> int:
    return segment.nbytes if isinstance(segment, Media) else 0


def _coded(
    window: Sequence[Sample], encoder: MediaEncoder
) -> Iterator[tuple[str, str | tuple[dict[str, Any], dict[str, bytes]]]]:
    """Of each sample its key, and its parts or the reason why there are none."""
    documents = [sample[1] for sample in window if not isinstance(sample, CorruptSample)]
    coded = iter(encoder.encode(documents))
    for sample in window:
        if isinstance(sample, CorruptSample):
            yield sample.key, sample.reason
            continue
        segments = next(coded)
        if isinstance(segments, ValueError):
            yield sample[0], str(segments)
        elif not segments:
            yield sample[0], "the document has no segments"
        else:
            yield sample[0], encoder.stored.to_parts(sample[0], segments)


# What is finished.


def beside(shard: Path) -> Path:
    """Where the JSON file about a shard of codes lies."""
    return shard.with_suffix(".json")


def _about(shard: Path, stored: StoredCodes) -> dict[str, Any]:
    """What a shard is made from, and by what."""
    stat = shard.stat()
    made_from = {"file": shard.name, "bytes": stat.st_size, "time": stat.st_mtime_ns}
    return {"from": made_from, **stored.to_json()}


def read_beside(path: Path) -> dict[str, Any] | None:
    """What a JSON file beside a shard says, None where there is none that can be read."""
    try:
        about, _ = read_sealed(path)
        if not isinstance(about, dict):
            return None
        shard_info(about.get("shard"), "shard")
    except ValueError:
        return None
    skipped = about.get("left_out")
    if not isinstance(about.get("from"), dict) or not isinstance(skipped, dict):
        return None
    reasons, count = skipped.get("reasons"), skipped.get("samples")
    sound = type(count) is int and count >= 0 and isinstance(reasons, list)
    return about if sound and bool(count) <= bool(reasons) else None


def finished(shard: Path, folder: Path, stored: StoredCodes) -> dict[str, Any] | None:
    """What stands beside the codes of a shard, None where they are missing or of another shard."""
    target = folder / shard.name
    entry = read_beside(beside(target))
    about = _about(shard, stored)
    if entry is None or any(entry.get(name) != value for name, value in about.items()):
        return None
    return entry if is_whole(folder, entry) else None


def is_whole(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the shard that a JSON file is about is there in its full size."""
    shard = folder / str(about["shard"]["file"])
    return shard.is_file() and shard.stat().st_size == about["shard"]["bytes"]
